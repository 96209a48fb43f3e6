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
const did = here.searchParams.get("did");
if (did) {
  ["did", "kind", "entry", "version", "count", "decision", "waits", "silent"].forEach((name) => here.searchParams.delete(name));
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
const ANSWER_WITHIN_MS = 5_000;
let asking = null;
let isCurrent = true;

const asked = () => `${search.action}?${new URLSearchParams(new FormData(search))}`;

// Says that the rows are from before, and leads to what was asked for.
function sayNoAnswer(results, url) {
  const said = one("#no-answer").content.cloneNode(true);
  said.querySelector("a").href = url;
  results.querySelector('.state[role="alert"]')?.remove();
  results.prepend(said);
}

async function showResults() {
  asking?.abort();
  const mine = asking = new AbortController();
  const results = one("#results");
  const busy = setTimeout(() => results.setAttribute("aria-busy", "true"), 150);
  const url = asked();
  try {
    const page = await fetched(url, AbortSignal.any([mine.signal, AbortSignal.timeout(ANSWER_WITHIN_MS)]));
    if (!page) return location.assign(url);
    // A live region speaks when its text changes, so this one stays.
    const summary = one("#summary");
    const said = page.querySelector("#summary");
    const text = said.textContent;
    said.replaceWith(summary);
    results.replaceChildren(...page.querySelector("#results").childNodes);
    summary.textContent = text;
    one(".views").replaceChildren(...page.querySelector(".views").childNodes);
    history.replaceState(null, "", url);
    isCurrent = true;
  } catch {
    if (!mine.signal.aborted) sayNoAnswer(results, url);
  } finally {
    clearTimeout(busy);
    // A later question may still be on its way.
    if (mine === asking) results.removeAttribute("aria-busy");
  }
}

if (search) {
  // What nobody filled in is not asked for.
  search.addEventListener("formdata", ({ formData }) => {
    const filled = [...formData].filter(([, value]) => value.trim() !== "");
    for (const name of new Set(formData.keys())) formData.delete(name);
    for (const [name, value] of filled) formData.append(name, value);
  });
  let pause;
  field.setSelectionRange(field.value.length, field.value.length);
  field.addEventListener("input", () => {
    isCurrent = false;
    clearTimeout(pause);
    pause = setTimeout(showResults, 120);
  });
  search.addEventListener("submit", (event) => {
    const first = one(".named a, .rows tbody a");
    if (document.activeElement !== field || field.value.trim() === "" || !isCurrent || !first) return;
    event.preventDefault();
    location.assign(first.href);
  });
}

// What somebody writes on a customer stays while another tab or filter is looked at.
const drafts = (() => { try { return sessionStorage; } catch { return null; } })();
const reader = one(".reader .name")?.textContent;
// Whoever signs in next in this tab does not find them.
if (reader && drafts && drafts.getItem("reader") !== reader) {
  drafts.clear();
  drafts.setItem("reader", reader);
}
const draft = (action) => `draft ${action} `;
// What was sent stays until a page says that it was added.
if (drafts && did === "added") {
  const sent = Object.keys(drafts).filter((place) => place.startsWith(draft(drafts.getItem("sent"))));
  sent.forEach((place) => drafts.removeItem(place));
}
const writing = one("#write form");
if (writing && drafts) {
  const texts = [...writing.querySelectorAll("textarea, input:not([type=hidden])")];
  const place = ({ name }) => draft(writing.action) + name;
  for (const text of texts) {
    text.value ||= drafts.getItem(place(text)) ?? "";
    text.addEventListener("input", () => drafts.setItem(place(text), text.value));
  }
  writing.addEventListener("submit", () => drafts.setItem("sent", writing.action));
}
for (const form of document.querySelectorAll('form[action="/sign-out"]')) form.addEventListener("submit", () => drafts?.clear());

// A longer timeline, before its end comes into view.
function lengthen() {
  const older = one("#older");
  if (!older) return;
  const seen = new IntersectionObserver(async ([entry]) => {
    if (!entry.isIntersecting) return;
    seen.disconnect();
    const page = await fetched(older.href).catch(() => null);
    const fresh = page?.querySelector("#days");
    // Not what was asked for, as when there are too many requests: the link stays for whoever tries again.
    if (!fresh) return;
    const days = one("#days");
    for (const day of fresh.querySelectorAll(":scope > .day")) {
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

// Operations: parts of the page as they change, until somebody pauses that.
const live = one("#live");
const pause = one("#pause");
const LISTEN_AGAIN_MS = 10_000;
let streaming = null;
let isPaused = false;
let again;
let spokenAt = 0;
// Parts that came while somebody had text of the old ones selected, by id.
const late = new Map();

const checked = () => [...document.querySelectorAll("#letters tbody input:checked")];

// What is selected is said on the buttons.
function countSelected() {
  const count = checked().length;
  for (const button of document.querySelectorAll("#letters [data-verb]")) {
    const end = button.dataset.verb === "Discard" ? "…" : "";
    button.textContent = `${button.dataset.verb} ${count || ""} selected${end}`.replace("  ", " ");
    button.disabled = count === 0;
  }
  const all = one("#all-letters");
  if (all) {
    all.hidden = false;
    all.checked = count > 0 && count === document.querySelectorAll("#letters tbody input").length;
  }
}

// What an element is known by in a part and in the next one.
const mark = (element) => element.id || element.href || element.dataset.verb || element.getAttribute("aria-label");

// Replaces a part, and keeps what is selected, how far it is scrolled and where the focus is.
function replacePart(fresh) {
  const old = document.getElementById(fresh.id);
  if (!old || old.outerHTML === fresh.outerHTML) return;
  const selection = getSelection();
  if (!selection.isCollapsed && old.contains(selection.anchorNode)) return late.set(fresh.id, fresh);
  late.delete(fresh.id);
  const focused = old.contains(document.activeElement) && mark(document.activeElement);
  const scrolled = [...old.querySelectorAll(".sideways")].map(({ scrollLeft }) => scrollLeft);
  const selected = fresh.id === "letters" ? checked().map(({ id }) => id) : [];
  const before = fresh.id === "attention" && old.querySelector("h2").textContent;
  old.replaceWith(fresh);
  selected.forEach((id) => { const box = document.getElementById(id); if (box) box.checked = true; });
  if (fresh.id === "letters") countSelected();
  fresh.querySelectorAll(".sideways").forEach((region, at) => { region.scrollLeft = scrolled[at] ?? 0; });
  if (focused) {
    const same = [...fresh.querySelectorAll("a, input, button, [tabindex]")].find((element) => mark(element) === focused);
    same?.focus({ preventScroll: true });
  }
  const now = before && fresh.querySelector("h2").textContent;
  if (now && now !== before && Date.now() - spokenAt > 10_000) {
    spokenAt = Date.now();
    one("#news").textContent = now;
  }
}

function listen() {
  const said = one("#liveness");
  const news = one("#news");
  const stopped = "The page is not live";
  clearTimeout(again);
  streaming = new EventSource(live.dataset.live);
  streaming.addEventListener("parts", (event) => {
    said.textContent = "Live";
    if (news.textContent === stopped) news.textContent = "";
    const { body } = new DOMParser().parseFromString(event.data, "text/html");
    [...body.children].forEach(replacePart);
  });
  streaming.addEventListener("error", () => {
    said.textContent = "Not live: trying again";
    // A browser does not try again by itself where it had an answer that is no stream, as while the database is away.
    if (streaming.readyState !== EventSource.CLOSED) return;
    if (news.textContent !== stopped) news.textContent = stopped;
    again = setTimeout(listen, LISTEN_AGAIN_MS);
  });
}

function stopListening() {
  clearTimeout(again);
  streaming?.close();
}

if (live) {
  pause.hidden = false;
  listen();
  pause.addEventListener("click", () => {
    isPaused = !isPaused;
    if (isPaused) stopListening();
    else listen();
    one("#liveness").textContent = isPaused ? "Paused" : "";
    pause.textContent = isPaused ? "Resume updates" : "Pause updates";
  });
  // A page that nobody sees holds no connection: a browser has few of them for all its pages.
  document.addEventListener("visibilitychange", () => {
    if (isPaused) return;
    if (document.hidden) stopListening();
    else listen();
  });
  document.addEventListener("selectionchange", () => {
    if (getSelection().isCollapsed) [...late.values()].forEach(replacePart);
  });
  countSelected();
  document.addEventListener("change", ({ target }) => {
    if (target.id === "all-letters") document.querySelectorAll("#letters tbody input").forEach((box) => { box.checked = target.checked; });
    if (target.closest("#letters")) countSelected();
  });
}

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
  const rows = [...document.querySelectorAll(".named a, .rows tbody th a, #letters tbody input")];
  const at = rows.indexOf(document.activeElement);
  if (at + step < 0) return field?.focus();
  rows[Math.min(at + step, rows.length - 1)]?.focus();
}

const single = {
  "/": () => field?.focus(),
  "?": () => keys?.showModal(),
  j: () => move(1),
  k: () => move(-1),
  x: () => document.activeElement.matches("#letters tbody input") && document.activeElement.click(),
  R: () => one('#letters [data-verb="Retry"]:enabled')?.click(),
  e: () => one("#edit")?.click(),
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
  const go = wasG && one(`.bar nav a[href="${{ c: "/customers", i: "/insights", o: "/operations" }[event.key]}"]`)?.href;
  wasG = event.key === "g";
  const filter = /^[1-9]$/.test(event.key) && document.querySelectorAll("#timeline .tabs a")[event.key - 1];
  const act = go ? () => location.assign(go) : filter ? () => filter.click() : single[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
