import { verdicts } from "./verdicts.mjs";

// Not awaited: a bundle for require has no top-level await.
verdicts().then((all) => console.log(JSON.stringify(all)));
