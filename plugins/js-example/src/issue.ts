import type { Event, Verdict } from "revnoxa:webhook/handler@1.0.0";
import type { log } from "revnoxa:webhook/log@1.0.0";

/** What the tenant sets where the plugin is attached to the endpoint. */
interface Settings {
  /** Key of the Jira project that gets the issues. */
  project: string;
  /** Name of the issue type; `Task` when left out. */
  issueType?: string;
  /** Jira's priority for each severity, such as `{"1": "Highest"}`; without one, the project's default. */
  priorities?: Record<string, string>;
}

interface Incident {
  title?: string;
  severity?: number | string;
  description?: string;
}

/**
 * The request that creates an issue through `POST /rest/api/2/issue` for a new incident; other events are dropped.
 *
 * Throws when the settings name no project or the incident has no title.
 */
export function jiraIssue(event: Event, settings: string, write: typeof log): Verdict {
  if (event.type !== "incident.created") {
    return { tag: "drop", val: `${event.type} opens no issue` };
  }
  const { project, issueType = "Task", priorities = {} } = JSON.parse(settings) as Partial<Settings>;
  if (!project) throw new Error('the settings need a "project"');
  const { data } = JSON.parse(new TextDecoder().decode(event.body)) as { data?: Incident };
  if (!data?.title) throw new Error("the incident has no title");

  const priority = priorities[String(data.severity)];
  if (!priority) write("warn", `no priority for severity ${data.severity} in the settings`);

  const fields = {
    project: { key: project },
    issuetype: { name: issueType },
    summary: data.title,
    description: data.description ?? "",
    labels: [event.id],
    ...(priority && { priority: { name: priority } }),
  };
  const headers = [
    { name: "content-type", value: "application/json" },
    { name: "x-atlassian-token", value: "no-check" },
  ];
  return { tag: "deliver", val: { body: new TextEncoder().encode(JSON.stringify({ fields })), headers } };
}
