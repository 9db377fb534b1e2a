import { join } from "node:path";

export default {
  // Where git does not look.
  distDir: "node_modules/.next",
  turbopack: { root: join(import.meta.dirname, "..") },
};
