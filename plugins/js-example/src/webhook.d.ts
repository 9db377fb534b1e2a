// `../wit/webhook.wit` in TypeScript; that file says what each field means and which limits hold.

declare module "revnoxa:webhook/log@1.0.0" {
  export type Level = "debug" | "info" | "warn" | "error";
  export function log(level: Level, message: string): void;
}

declare module "revnoxa:webhook/handler@1.0.0" {
  export interface Header {
    name: string;
    value: string;
  }

  export interface Event {
    id: string;
    type: string;
    tenant: string;
    timestampMs: bigint;
    body: Uint8Array;
    headers: Header[];
  }

  export interface Request {
    body: Uint8Array;
    headers: Header[];
  }

  export type Verdict = { tag: "deliver"; val: Request } | { tag: "drop"; val: string };

  /** To answer with the contract's error, throw a string. Any other exception is a trap. */
  export function handle(event: Event, settings: string): Verdict;
}
