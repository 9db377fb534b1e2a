import { use } from "./core.js";
import { inlined } from "./inlined.js";

export * from "./core.js";

// Once, here, and synchronously: a receiver needs no set-up and no await.
use(inlined());
