export { GET, POST } from "../../receiver.mjs";

export const dynamic = "force-dynamic";
