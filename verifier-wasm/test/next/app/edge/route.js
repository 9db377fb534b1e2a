export { GET, POST } from "../../receiver.mjs";

export const runtime = "edge";
