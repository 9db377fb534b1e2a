// What the pages do with a script: nothing that a form without one could not.

const POLL_MS = 2000;
const POLL_MOST_MS = 60000;

export function enhance(root) {
  for (const time of root.querySelectorAll("time")) localise(time);
  for (const button of root.querySelectorAll("button.copy")) button.hidden = false;
}

/** Shows a time in the reader's zone; its tooltip keeps the exact one. */
function localise(time) {
  const at = new Date(time.dateTime);
  const day = { month: "short", day: "numeric" };
  const clock = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
  const year = at.getFullYear() === new Date().getFullYear() ? {} : { year: "numeric" };
  time.textContent = at.toLocaleString("en", { ...year, ...day, ...clock });
}

export function announce(text) {
  let region = document.getElementById("announcements");
  if (!region) {
    region = document.createElement("p");
    region.id = "announcements";
    region.className = "sr";
    region.setAttribute("role", "status");
    document.body.append(region);
  }
  region.textContent = text;
}

async function copy(button) {
  const text = button.dataset.text ?? document.getElementById(button.dataset.copy).textContent;
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    announce("Copied");
  } catch {
    // Without leave to write to the clipboard it can still be selected and copied by hand.
    const shown = button.parentElement.querySelector("pre, code");
    getSelection().selectAllChildren(shown);
    button.textContent = "Selected: copy it now";
    announce(button.textContent);
  }
  setTimeout(() => { button.textContent = label; }, 2000);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button.copy");
  if (button) copy(button);
});

// A second press of a button while the first is under way would add a second endpoint.
document.addEventListener("submit", (event) => {
  if (!event.target.matches("form[data-once]")) return;
  if (event.target.dataset.sent) event.preventDefault();
  event.target.dataset.sent = "yes";
});
// A page that comes back from the browser's memory has not been sent.
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-once]")) delete form.dataset.sent;
});

// What was just done must not be done again by a reload.
const here = document.querySelector("[data-here]");
if (here) history.replaceState(null, "", here.dataset.here);

/** Asks again and again for a part of the page, as long as somebody looks at it, and puts in what is new. */
async function follow(id, wait = POLL_MS) {
  const part = document.getElementById(id);
  if (!part?.dataset.live) return;
  await new Promise((resolve) => { setTimeout(resolve, wait); });
  if (document.hidden) {
    await new Promise((resolve) => { document.addEventListener("visibilitychange", resolve, { once: true }); });
  }
  try {
    const answer = await fetch(part.dataset.live, { headers: { accept: "text/html" } });
    if (answer.status === 401 || answer.status === 404) return;
    if (!answer.ok) throw new Error(`answered ${answer.status}`);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    replace(part, page.getElementById(id));
    follow(id);
  } catch {
    follow(id, Math.min(wait * 2, POLL_MOST_MS));
  }
}

const seen = new Map();

function replace(part, fresh) {
  if (!fresh || fresh.outerHTML === seen.get(part.id)) return;
  seen.set(part.id, fresh.outerHTML);
  for (const open of part.querySelectorAll("details[open][id]")) {
    fresh.querySelector(`#${CSS.escape(open.id)}`)?.setAttribute("open", "");
  }
  const before = new Set([...part.querySelectorAll("tr[id]")].map((row) => row.id));
  const added = [...fresh.querySelectorAll("tr[id]")].filter((row) => !before.has(row.id));
  const focused = part.contains(document.activeElement) && document.activeElement.getAttribute("href");
  const scrolled = part.querySelector(".scroll")?.scrollLeft ?? 0;
  enhance(fresh);
  part.replaceWith(fresh);
  fresh.querySelector(".scroll")?.scrollTo(scrolled, 0);
  if (focused) fresh.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
  for (const row of added) row.classList.add("new");
  if (added.length) announce(added.length === 1 ? "One new delivery" : `${added.length} new deliveries`);
}

for (const part of document.querySelectorAll("[data-live]")) {
  seen.set(part.id, part.outerHTML);
  follow(part.id);
}
enhance(document);
