// Prints JSON again in the ways of common libraries. Works on the text: numbers stay as they are written, which
// JSON.parse would change.

const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;
const STRING = /"(?:[^"\\]|\\.)*"/g;

const LAYOUTS = [
  { says: "in one line without spaces, as JSON.stringify prints it", comma: "", colon: "" },
  {
    says: "in one line with a space after each `,` and `:`, as Python's json.dumps prints it",
    comma: " ",
    colon: " ",
  },
  { says: "indented by 2 spaces", comma: "", colon: " ", indent: "  " },
  { says: "indented by 4 spaces", comma: "", colon: " ", indent: "    " },
  { says: "indented by tabs", comma: "", colon: " ", indent: "\t" },
];

const again = (string) => JSON.stringify(JSON.parse(string));
const codePoint = (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
const ascii = (string) => again(string).replace(/[\u0080-\uffff]/g, codePoint);
const slashes = (string) => string.replaceAll("/", "\\/");

const SPELLINGS = [
  { spell: (string) => string },
  { says: "with characters such as é as themselves", spell: again },
  { says: "with characters such as é written as \\u00e9", spell: ascii },
  {
    says: "with characters such as é written as \\u00E9",
    spell: (string) => again(string).replace(/[\u0080-\uffff]/g, (c) => `\\u${codePoint(c).slice(2).toUpperCase()}`),
  },
  { says: "with `/` written as `\\/`", spell: (string) => slashes(again(string)) },
  { says: "with `/` written as `\\/` and characters such as é as \\u00e9", spell: (string) => slashes(ascii(string)) },
  {
    says: "with `<`, `>` and `&` written as \\u003c, as Go and Rails print them",
    spell: (string) => again(string).replace(/[<>&\u2028\u2029]/g, codePoint),
  },
];

/** JSON of more characters is printed in the spelling it has alone: all of them would take noticeable time. */
const MAX_SPELLED = 1 << 16;

/** How the host orders an event's members. */
const MEMBERS = ['"id"', '"type"', '"timestamp"', '"data"'];

/** The ways to print a JSON text again, each as `says`, in words, and `text`; none for what is no JSON. */
export function* printedAgain(json) {
  if (!isJson(json)) return;
  const tokens = json.match(TOKEN);
  const layouts = LAYOUTS.map((layout) => ({ says: layout.says, gaps: gapsOf(tokens, layout) }));
  const seen = new Set();
  for (const { says, spell } of json.length > MAX_SPELLED ? SPELLINGS.slice(0, 1) : SPELLINGS) {
    const spelled = tokens.map((token) => (token.startsWith('"') ? spell(token) : token));
    const compact = spelled.join("");
    if (seen.has(compact)) continue;
    seen.add(compact);
    if (says) yield { says: `as it is, but ${says}`, text: json.replace(STRING, spell) };
    for (const layout of layouts) {
      yield { says: says ? `${layout.says}, ${says}` : layout.says, text: print(spelled, layout.gaps) };
    }
    const ordered = inOrder(spelled);
    const order = `with id, type, timestamp and data in this order${says ? `, and ${says}` : ""}`;
    if (ordered) yield { says: order, text: ordered.join("") };
  }
}

export function isJson(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** What a layout puts behind each token. */
function gapsOf(tokens, { comma, colon, indent }) {
  let depth = 0;
  const line = () => (indent === undefined ? "" : `\n${indent.repeat(depth)}`);
  return tokens.map((token, at) => {
    if (token === ",") return comma + line();
    if (token === ":") return colon;
    if (isOpening(token)) depth++;
    const next = tokens[at + 1];
    if (!isClosing(next)) return isOpening(token) ? line() : "";
    depth--;
    return isOpening(token) ? "" : line();
  });
}

function print(tokens, gaps) {
  return tokens.map((token, at) => token + gaps[at]).join("");
}

const isOpening = (token) => token === "{" || token === "[";
const isClosing = (token) => token === "}" || token === "]";

/** The tokens of an event whose members stand in another order, as after sorting; undefined for anything else. */
function inOrder(tokens) {
  if (tokens[0] !== "{") return undefined;
  const members = [[]];
  let depth = 0;
  for (const token of tokens.slice(1, -1)) {
    if (isOpening(token)) depth++;
    if (isClosing(token)) depth--;
    if (token === "," && depth === 0) members.push([]);
    else members.at(-1).push(token);
  }
  const ordered = MEMBERS.map((name) => members.find((member) => member[0] === name));
  if (members.length !== MEMBERS.length || ordered.includes(undefined)) return undefined;
  if (ordered.every((member, at) => member === members[at])) return undefined;
  return ["{", ...ordered.flatMap((member, at) => (at === 0 ? member : [",", ...member])), "}"];
}
