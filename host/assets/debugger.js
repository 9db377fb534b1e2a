// The page of the signature debugger: what is typed goes to `diagnose`, what that finds to the page, and nothing anywhere else.
import { diagnose } from "./diagnose.js";

/** How long typing has to rest before the diagnosis runs. */
const REST_MS = 250;

const form = document.querySelector("#debugger");
const [body, headers, secret] = ["body", "headers", "secret"].map((id) => document.getElementById(id));
const size = document.querySelector("#body-size");
const show = document.querySelector("#show-secret");
const clear = document.querySelector("#clear");
const verdict = document.querySelector("#verdict");
const list = document.querySelector("#findings");

const LABELS = { ok: "✓ Fits", problem: "✗ Problem", note: "• Note" };

let timer;
let told;

form.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(run, REST_MS);
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  run();
});
// Not a reset, which would bring the delivery back that the page came with.
clear.addEventListener("click", () => {
  for (const field of [body, headers, secret]) field.value = "";
  run();
  body.focus();
});
show.addEventListener("click", () => {
  const isShown = secret.type === "password";
  secret.type = isShown ? "text" : "password";
  show.setAttribute("aria-pressed", String(isShown));
});
// A page that the browser keeps for "back" keeps what is in its fields.
addEventListener("pagehide", () => {
  secret.value = "";
  run();
});

form.hidden = false;
run();

function run() {
  clearTimeout(timer);
  const { ok, findings } = diagnose({
    body: body.value,
    headers: headers.value,
    secret: secret.value,
    now: new Date(),
  });
  const bytes = new TextEncoder().encode(body.value).length;
  size.textContent = `${bytes.toLocaleString("en")} ${bytes === 1 ? "byte" : "bytes"} in UTF-8`;
  tell(ok, findings);
  list.replaceChildren(...findings.map(entry));
}

/** A screen reader reads the verdict whenever it changes, so it stays as it is when nothing did. */
function tell(ok, findings) {
  const problems = findings.filter(({ level }) => level === "problem");
  const [look, text] = ok
    ? ["notice ok", "✓ Verified: the signature is genuine."]
    : problems.length > 0
      ? ["notice failed", `✗ Not verified. ${problems[0].text}`]
      : ["notice", "Not checked yet: body, headers and secret are needed."];
  if (text === told) return;
  told = text;
  verdict.className = look;
  verdict.replaceChildren(...marked(text));
}

function entry({ kind, level, text, fix }) {
  const item = document.createElement("li");
  item.dataset.kind = kind;
  item.dataset.level = level;
  item.append(paragraph("level", LABELS[level]), paragraph("text", text));
  if (fix) item.append(paragraph("fix", fix));
  return item;
}

function paragraph(name, text) {
  const paragraph = document.createElement("p");
  paragraph.className = name;
  paragraph.append(...marked(text));
  return paragraph;
}

/** A text in which what stands between backquotes is code. */
function marked(text) {
  return text.split("`").map((part, at) => {
    if (at % 2 === 0) return part;
    const code = document.createElement("code");
    code.textContent = part;
    return code;
  });
}
