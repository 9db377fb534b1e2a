// For runtimes that compile no wasm from bytes: they import it compiled.
import module from "wasm:module";

import { use } from "./core.js";

export * from "./core.js";

use(module);
