import assert from "node:assert/strict";
import { test } from "node:test";

import { jiraIssue } from "../dist/issue.js";

const settings = { project: "OPS", priorities: { 1: "Highest" } };

const incident = (data, type = "incident.created") => ({
  id: "evt_1",
  type,
  tenant: "acme",
  timestampMs: 1795435200000n,
  body: new TextEncoder().encode(JSON.stringify({ id: "evt_1", type, timestamp: "2026-11-23T12:00:00.000Z", data })),
  headers: [],
});

/** The verdict with a readable body, and the log. */
function run(event, settings) {
  const log = [];
  const { tag, val } = jiraIssue(event, JSON.stringify(settings), (level, message) => log.push(`${level}: ${message}`));
  return { tag, val: tag === "deliver" ? { ...val, body: JSON.parse(new TextDecoder().decode(val.body)) } : val, log };
}

test("an incident becomes an issue with the priority of its severity", () => {
  const event = incident({ title: "Checkout is down", severity: 1, description: "Cards are refused" });
  assert.deepEqual(run(event, settings), {
    tag: "deliver",
    val: {
      body: {
        fields: {
          project: { key: "OPS" },
          issuetype: { name: "Task" },
          summary: "Checkout is down",
          description: "Cards are refused",
          labels: ["evt_1"],
          priority: { name: "Highest" },
        },
      },
      headers: [
        { name: "content-type", value: "application/json" },
        { name: "x-atlassian-token", value: "no-check" },
      ],
    },
    log: [],
  });
});

test("a severity without a priority is left to Jira, and the log says so", () => {
  const { val, log } = run(incident({ title: "Slow search", severity: 4 }), { ...settings, issueType: "Incident" });
  assert.equal(val.body.fields.priority, undefined);
  assert.deepEqual(val.body.fields.issuetype, { name: "Incident" });
  assert.deepEqual(log, ["warn: no priority for severity 4 in the settings"]);
});

test("other events open no issue", () => {
  const { tag, val } = run(incident({ title: "Checkout is up" }, "incident.resolved"), settings);
  assert.deepEqual({ tag, val }, { tag: "drop", val: "incident.resolved opens no issue" });
});

test("what is missing is named", () => {
  assert.throws(() => run(incident({ title: "Checkout is down" }), {}), /the settings need a "project"/);
  assert.throws(() => run(incident({ severity: 1 }), settings), /the incident has no title/);
  assert.throws(() => run({ ...incident({}), body: new TextEncoder().encode("hello") }, settings), SyntaxError);
});
