// Uploads that show how far they are, and attachments that move up and down; the forms do both without.

/** Text of others such that what is in it is seen; the pages do the same on the server. */
function plain(text) {
  const named = (character) => `⟨U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
  return text.replace(/(?![\n\t])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, named);
}

function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 1024 * 1024 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / (1024 * 1024)).toFixed(1)} MiB`;
}

function element(name, about, ...children) {
  const made = Object.assign(document.createElement(name), about);
  made.append(...children);
  return made;
}

function ready({ version, size_bytes, created }) {
  const short = element("code", { title: version }, version.slice(0, "sha256:".length + 12));
  const link = element("a", { href: `${location.pathname}/versions/${version}` }, short);
  const found = created ? "It passed all checks and is a version now: " : "It is the same component as a version that is here already: ";
  return element("p", { className: "notice ok", role: "status" }, found, link, `, ${size(size_bytes)}. Try it there before you attach it.`);
}

function refused(reason) {
  const why = element("p", {}, element("bdi", {}, plain(reason)));
  return element("div", { className: "notice failed", role: "alert" }, element("p", {}, "It is not taken, for this reason:"), why);
}

/** What the answer came to: lines of progress, of which the last counts, or a problem. */
function result(request) {
  try {
    const last = JSON.parse(request.responseText.trim().split("\n").at(-1));
    if (last.state === "ready") return ready(last);
    if (last.state === "refused") return refused(last.problem.detail);
    if (request.status >= 400) return refused(last.detail);
  } catch {
    // It broke off.
  }
  return refused("the connection broke off; upload it once more: the same bytes twice are one version");
}

function upload(form) {
  const [button, bar] = [form.querySelector("button.primary"), form.querySelector("progress")];
  const [phase, elapsed] = form.querySelectorAll(".uploading span");
  const request = new XMLHttpRequest();
  request.open("POST", form.dataset.upload);
  request.setRequestHeader("content-type", "application/wasm");
  request.setRequestHeader("accept", "application/x-ndjson");
  request.setRequestHeader("x-csrf-token", form.elements.csrf.value);
  request.upload.addEventListener("progress", ({ loaded, total }) => {
    bar.value = loaded / total;
    elapsed.textContent = `${size(loaded)} of ${size(total)}`;
  });
  request.upload.addEventListener("load", () => {
    bar.removeAttribute("value");
    phase.textContent = "Compiling and checking…";
    elapsed.textContent = "";
  });
  request.addEventListener("progress", () => {
    const seen = request.responseText.match(/"elapsed_ms":(\d+)\}\n$/);
    if (seen) elapsed.textContent = `${Math.round(seen[1] / 1000)} s`;
  });
  request.addEventListener("loadend", () => {
    form.querySelector(".uploading").hidden = true;
    form.querySelector(".uploaded").replaceChildren(result(request));
    button.disabled = false;
    showVersions();
  });
  button.disabled = true;
  bar.value = 0;
  phase.textContent = "Uploading…";
  elapsed.textContent = "";
  form.querySelector(".uploaded").replaceChildren();
  form.querySelector(".uploading").hidden = false;
  request.send(form.elements.component.files[0]);
}

/** Puts in the versions as they are now. */
async function showVersions() {
  const answer = await fetch(location.href, { headers: { accept: "text/html" } });
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.getElementById("versions");
  for (const button of fresh.querySelectorAll("button.copy")) button.hidden = false;
  document.getElementById("versions").replaceWith(fresh);
}

document.querySelector("form[data-upload]")?.addEventListener("submit", (event) => {
  event.preventDefault();
  // It stays on the page, to be sent again.
  event.stopPropagation();
  upload(event.currentTarget);
});

function move(button) {
  const row = button.closest("fieldset");
  const rows = () => [...row.parentElement.querySelectorAll("fieldset.attachment")];
  const by = Number(button.dataset.by);
  const passed = rows()[rows().indexOf(row) + by];
  if (!passed) return;
  if (by < 0) passed.before(row);
  else passed.after(row);
  for (const [index, each] of rows().entries()) each.querySelector("[name=order]").value = index + 1;
  button.focus();
  const name = row.querySelector("legend").textContent;
  row.parentElement.querySelector("[role=status]").textContent = `${name} is at place ${rows().indexOf(row) + 1} now`;
}

for (const button of document.querySelectorAll("button.move")) {
  button.hidden = false;
  button.addEventListener("click", () => move(button));
}
