import { log } from "revnoxa:webhook/log@1.0.0";

import { jiraIssue } from "./issue.js";

export const handler: typeof import("revnoxa:webhook/handler@1.0.0") = {
  handle(event, settings) {
    try {
      return jiraIssue(event, settings, log);
    } catch (error) {
      // An `Error` would trap without its message; only a string reaches the tenant.
      throw String(error);
    }
  },
};
