// What pages can do beyond links and forms: results while typing, longer timelines, keys. Everything works without it.
"use strict";

const one = (selector) => document.querySelector(selector);
const root = document.documentElement;
root.classList.add("scripted");

// Times are drawn by the server, in the zone that the browser says.
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
document.cookie = `c360_zone=${zone}; path=/; max-age=31536000; samesite=strict`;

// What a form did is said once.
const here = new URL(location);
if (here.searchParams.has("did")) {
  ["did", "kind", "entry", "version", "silent"].forEach((name) => here.searchParams.delete(name));
  history.replaceState(null, "", here);
}

// The same page as the link, without leaving this one; null if it leads elsewhere by now, as to the sign-in.
async function fetched(url, signal) {
  const answer = await fetch(url, { signal });
  if (answer.redirected) return null;
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

// Results while typing: what is there stays until the new ones come.
const search = one("#search");
const field = one(".q input");
let asking = null;
let isCurrent = true;

function asked() {
  const filled = [...new FormData(search)].filter(([, value]) => value.trim() !== "");
  return `${search.action}?${new URLSearchParams(filled)}`;
}

async function showResults() {
  asking?.abort();
  asking = new AbortController();
  const results = one("#results");
  const busy = setTimeout(() => results.setAttribute("aria-busy", "true"), 150);
  try {
    const url = asked();
    const page = await fetched(url, asking.signal);
    if (!page) return location.assign(url);
    // A live region speaks when its text changes, so this one stays.
    const summary = one("#summary");
    const said = page.querySelector("#summary");
    const text = said.textContent;
    said.replaceWith(summary);
    results.replaceChildren(...page.querySelector("#results").childNodes);
    summary.textContent = text;
    history.replaceState(null, "", url);
    isCurrent = true;
  } catch (error) {
    if (error.name !== "AbortError") one("#summary").textContent = "No answer. Press Enter to try again.";
  } finally {
    clearTimeout(busy);
    results.removeAttribute("aria-busy");
  }
}

if (search) {
  let pause;
  field.setSelectionRange(field.value.length, field.value.length);
  field.addEventListener("input", () => {
    isCurrent = false;
    clearTimeout(pause);
    pause = setTimeout(showResults, 120);
  });
  search.addEventListener("submit", (event) => {
    const first = one(".rows tbody a");
    if (document.activeElement !== field || field.value.trim() === "" || !isCurrent || !first) return;
    event.preventDefault();
    location.assign(first.href);
  });
}

// A longer timeline, before its end comes into view.
function lengthen() {
  const older = one("#older");
  if (!older) return;
  const seen = new IntersectionObserver(async ([entry]) => {
    if (!entry.isIntersecting) return;
    seen.disconnect();
    const page = await fetched(older.href).catch(() => null);
    if (!page) return;
    const days = one("#days");
    for (const day of page.querySelectorAll("#days > .day")) {
      const last = days.lastElementChild;
      const isSame = last?.querySelector("h3").textContent === day.querySelector("h3").textContent;
      if (isSame) last.querySelector("ol").append(...day.querySelectorAll("li"));
      else days.append(day);
    }
    const next = page.querySelector("#older");
    if (next) older.replaceWith(next);
    else older.remove();
    lengthen();
  }, { rootMargin: "400px" });
  seen.observe(older);
}
lengthen();

// Keys
const keys = one("#keys");
const switched = one("#single-keys");
const stored = (() => { try { return localStorage; } catch { return null; } })();

if (keys) {
  one("#show-keys").hidden = false;
  one("#show-keys").addEventListener("click", () => keys.showModal());
  switched.checked = stored?.getItem("single-keys") !== "off";
  switched.addEventListener("change", () => stored?.setItem("single-keys", switched.checked ? "on" : "off"));
}

function move(step) {
  const rows = [...document.querySelectorAll(".rows tbody th a")];
  const at = rows.indexOf(document.activeElement);
  if (at + step < 0) return field?.focus();
  rows[Math.min(at + step, rows.length - 1)]?.focus();
}

const single = {
  "/": () => field?.focus(),
  "?": () => keys?.showModal(),
  j: () => move(1),
  k: () => move(-1),
  r: () => one("#ask")?.requestSubmit(),
  n: () => one("#write textarea, #write input:not([type=hidden])")?.focus(),
};

let wasG = false;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || keys?.open) return;
  const target = event.target;
  const isField = target === field && search;
  if (event.key === "Escape") {
    const open = document.querySelector(".filter[open]");
    if (open) { open.open = false; return open.querySelector("summary").focus(); }
    if (isField && field.value) { field.value = ""; field.dispatchEvent(new Event("input")); return event.preventDefault(); }
    return target.blur?.();
  }
  // Nobody types into a box to tick, such as that of the list of keys, which keeps the focus for a moment when it closes.
  const isTyping = target.matches("input:not([type=checkbox]), textarea, select");
  if ((event.key === "ArrowDown" || event.key === "ArrowUp") && (isField || target.closest(".rows"))) {
    event.preventDefault();
    return move(event.key === "ArrowDown" ? 1 : -1);
  }
  if (isTyping || !switched?.checked) return;
  const go = wasG && { c: "/customers", i: "/insights" }[event.key];
  wasG = event.key === "g";
  const filter = /^[1-7]$/.test(event.key) && document.querySelectorAll("#timeline .tabs a")[event.key - 1];
  const act = go ? () => location.assign(go) : filter ? () => filter.click() : single[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
