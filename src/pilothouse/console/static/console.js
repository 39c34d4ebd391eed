// What htmx does not do: times in the reader's zone, keys, texts to copy, logs that stay at their end, and the banner of
// a lost connection.
"use strict";

const toSecond = { hour: "2-digit", minute: "2-digit", second: "2-digit" };
const toMinute = { hour: "2-digit", minute: "2-digit" };
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const formats = new Map();
const steps = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
// In the language of the page, which has them.
const texts = JSON.parse(document.body.dataset.texts);

function tell(name, variables) {
  return texts[name].replace(/%\((\w+)\)s/g, (_, variable) => variables[variable]);
}

// What the server's clock says: that of a browser may be wrong, by which what has just happened were of tomorrow.
const ahead = Date.now() - Date.parse(document.body.dataset.now);

function clock() {
  return Date.now() - (Math.abs(ahead) > 30000 ? ahead : 0);
}

function since(moment) {
  const seconds = (clock() - moment) / 1000;
  if (seconds < -60) return tellTime(moment, toMinute); // written by another clock that is wrong
  const step = steps.find(([length]) => seconds >= length);
  if (!step) return tell("now");
  return tell("ago", { duration: tell(step[1], { number: Math.round(seconds / step[0]) }) });
}

function format(moment, parts) {
  const key = Object.keys(parts).join();
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat(undefined, parts));
  return formats.get(key).format(moment);
}

// Of today the time alone, of other days with the date, of other years with the year.
function tellTime(moment, parts) {
  const now = new Date();
  if (moment.toDateString() === now.toDateString()) return format(moment, parts);
  const year = moment.getFullYear() === now.getFullYear() ? {} : { year: "numeric" };
  return format(moment, { ...year, month: "short", day: "numeric", ...parts });
}

function tellTimes(root) {
  for (const one of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(one.dateTime);
    const said = "moment" in one.dataset ? tellTime(moment, toSecond) : "minute" in one.dataset ? tellTime(moment, toMinute) : since(moment);
    if (one.textContent !== said) one.textContent = said;
    if (!one.dataset.told) one.title = exact.format(moment);
    one.dataset.told = "1";
  }
}

// An option takes no element.
function tellTimesOfOptions() {
  for (const one of document.querySelectorAll("option[data-at]")) {
    one.text = one.text.replace(one.dataset.said, tellTime(new Date(one.dataset.at), toMinute));
  }
}

// As Europe/Berlin (GMT+1).
function tellZone() {
  const short = new Intl.DateTimeFormat(undefined, { timeZoneName: "short" }).formatToParts(Date.now());
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const zone = short.find((part) => part.type === "timeZoneName")?.value;
  document.querySelector("[data-zone]").textContent = tell("zone", { zone: zone && zone !== name ? `${name} (${zone})` : name });
}

let heard = Date.now();
const lost = document.getElementById("lost");

function connected() {
  heard = Date.now();
  lost.hidden = true;
}

// Without a status there was no answer at all.
function disconnected(status) {
  lost.querySelector("[data-what]").textContent = status ? tell("failing", { status }) : tell("unreachable");
  lost.querySelector("[data-since]").textContent = tell("asOf", { time: tellTime(new Date(heard), toSecond) });
  lost.hidden = false;
}

// A stream that has been open is opened again by its extension, which gives up one that never was.
const againMilliseconds = 5000;

function beginAgain(source) {
  const path = source?.getAttribute?.("hx-sse:connect");
  if (!path || source._htmx?.sse) return;
  setTimeout(() => { if (source.isConnected && !source._htmx?.sse) htmx.ajax("GET", path, { source }); }, againMilliseconds);
}

const keys = {
  "/": () => {
    const field = document.querySelector("[data-search]");
    if (field) { field.focus(); field.select(); }
    return field;
  },
  "?": () => document.getElementById("help").showModal() || true,
  ArrowDown: () => goInList(1),
  ArrowUp: () => goInList(-1),
};

// From row to row of a list, whose name Enter opens; from the field of its search too.
function goInList(step) {
  const names = [...document.querySelectorAll(".list td .name[href]")];
  const at = names.findIndex((name) => name.closest("tr").contains(document.activeElement));
  const next = names[at < 0 ? (step > 0 ? 0 : names.length - 1) : at + step];
  if (next) next.focus();
  return next;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.composedPath()[0].closest?.("input:not([type=checkbox]), textarea, select, pre, [contenteditable]");
  const leaves = event.key === "ArrowDown" && event.target.matches?.("[data-search]");
  if ((!typing || leaves) && Object.hasOwn(keys, event.key) && keys[event.key]()) event.preventDefault();
});

// A log that is followed stays at its end, unless somebody has scrolled up in it.
let isHeld = false;

function followLog() {
  const log = document.querySelector("[data-follows]");
  if (log && !isHeld) log.scrollTop = log.scrollHeight;
}

document.addEventListener("scroll", ({ target }) => {
  if (target.dataset && "follows" in target.dataset) {
    isHeld = target.scrollTop + target.clientHeight < target.scrollHeight - 24;
  }
}, true);

// What forms keep in this tab ends when it was applied, and with the log-in. If that ended elsewhere, the same person
// finds it after the next, and another one's ends it.
const draftsAre = "pilothouse-draft ";

function removeDrafts(but) {
  for (const key of Object.keys(sessionStorage)) {
    if (key.startsWith(draftsAre) && !(but && key.startsWith(`${draftsAre}${but} `))) sessionStorage.removeItem(key);
  }
}

if (document.body.dataset.user) removeDrafts(document.body.dataset.user);

// The log-in leads back to a form of which this tab has kept what was typed.
const keptHere = document.querySelector("[data-kept]");
if (keptHere) keptHere.hidden = !Object.keys(sessionStorage).some((key) => key.startsWith(draftsAre) && key.endsWith(` ${keptHere.dataset.kept}`));

// What was sent with an ended session goes back into its form, on the page that the link leads to and on no later one.
const refill = document.body.dataset.user ? `${draftsAre}${document.body.dataset.user} back` : "";
const refills = document.querySelector("[data-refills]");

function takeRefill() {
  const text = refill && sessionStorage.getItem(refill);
  if (!text) return;
  sessionStorage.removeItem(refill);
  const { path, fields } = JSON.parse(text);
  const given = new Map(fields);
  const typed = (form) => [...form.elements].filter((one) => given.has(one.name) && !["hidden", "password", "file", "submit"].includes(one.type));
  const forms = [...document.forms].filter((form) => new URL(form.getAttribute("action") || location.href, location.href).pathname === path);
  const form = forms.sort((one, other) => typed(other).length - typed(one).length)[0];
  if (!form || !typed(form).length) return;
  for (const one of form.elements) {
    if (["checkbox", "radio"].includes(one.type)) one.checked = given.get(one.name) === one.value;
  }
  for (const one of typed(form)) if (!["checkbox", "radio"].includes(one.type)) one.value = given.get(one.name);
  for (let above = form.closest("details"); above; above = above.parentElement.closest("details")) above.open = true;
  const told = document.createElement("div");
  told.className = "notice ok";
  told.setAttribute("role", "status");
  told.textContent = tell("refilled");
  form.before(told);
  told.scrollIntoView({ block: "nearest" });
}

try {
  if (refills) {
    refills.textContent = refills.dataset.refills;
    refills.addEventListener("click", () => {
      const form = refills.closest("form");
      const fields = [...new FormData(form)].filter(([name]) => name !== "csrf");
      sessionStorage.setItem(refill, JSON.stringify({ path: new URL(form.getAttribute("action"), location.href).pathname, fields }));
    });
  } else {
    takeRefill();
  }
} catch { /* it is switched off */ }

// Who goes from page to page by keys begins in the content, and need not pass the menu of each page.
const byKeys = "pilothouse-keys";

document.addEventListener("click", (event) => {
  const leads = event.target.closest?.("a[href]:not([href^='#']), button");
  try {
    if (leads && event.detail === 0) sessionStorage.setItem(byKeys, "yes");
    else sessionStorage.removeItem(byKeys);
  } catch { /* it is switched off */ }
}, true);

try {
  const main = document.getElementById("main");
  if (sessionStorage.getItem(byKeys) && !location.hash && document.activeElement === document.body) main.focus({ preventScroll: true });
  sessionStorage.removeItem(byKeys);
} catch { /* it is switched off */ }

// Where the tabs are wider than the window, the present one is in sight.
const tab = document.querySelector(".tabs [aria-current]");
if (tab) tab.parentElement.scrollLeft = tab.offsetLeft - tab.parentElement.offsetLeft - (tab.parentElement.clientWidth - tab.offsetWidth) / 2;

// The answer to a form is no page to come back to: a browser would ask to send the form again, or show an error.
if (document.body.dataset.askedBy) history.replaceState(null, "", document.body.dataset.askedBy);

document.addEventListener("submit", (event) => {
  const form = event.target; // its property action can be a field of that name
  if (!("endsDrafts" in form.dataset) && !/\/(logout|account\/(password|sessions\/end-all))$/.test(new URL(form.getAttribute("action") ?? "", location.href).pathname)) return;
  removeDrafts();
  document.dispatchEvent(new Event("drafts:ended"));
});

// The text beside a button, or the address of the link that is there: whole, for whoever gets it.
document.addEventListener("click", async ({ target }) => {
  const button = target.closest?.("[data-copy]");
  if (!button) return;
  const text = button.parentElement.querySelector("code, a[href]");
  try {
    await navigator.clipboard.writeText(text.href ?? text.textContent);
    button.textContent = tell("copied");
  } catch { // plain HTTP has no clipboard
    if (text.href) text.textContent = text.href;
    getSelection().selectAllChildren(text);
    button.textContent = tell("selected");
  }
});

// How many rows are ticked, beside what can be done with them.
function countTicked() {
  const told = document.querySelector("[data-ticked]");
  if (told) told.textContent = tell("ticked", { number: document.querySelectorAll(".tick :checked").length });
}

// A row that has the focus keeps it when the list comes anew; if it is gone, the first one gets it.
let focused = null;

document.addEventListener("htmx:before:swap", () => {
  focused = document.activeElement?.closest("#list .name[href]")?.getAttribute("href") ?? null;
});

function keepFocus() {
  if (focused === null || document.activeElement?.matches("a, button, input, select, textarea")) return;
  const names = [...document.querySelectorAll("#list .name[href]")];
  (names.find((name) => name.getAttribute("href") === focused) ?? names[0])?.focus({ preventScroll: true });
}

document.addEventListener("change", countTicked);
document.addEventListener("htmx:after:swap", ({ detail }) => {
  if (detail.ctx?.response?.status >= 400) return;
  connected(); tellTimes(document); countTicked(); keepFocus();
});
document.addEventListener("htmx:sse:after:message", () => { connected(); tellTimes(document); followLog(); });
document.addEventListener("htmx:sse:error", ({ detail }) => disconnected(detail.status));
document.addEventListener("htmx:error", ({ target }) => { disconnected(); beginAgain(target); });
document.addEventListener("htmx:response:error", ({ target, detail }) => { disconnected(detail.ctx.response.status); beginAgain(target); });
document.addEventListener("refused", () => location.reload());
window.addEventListener("offline", () => disconnected());
// What is on its way when its page is left is no lost connection.
window.addEventListener("beforeunload", () => {
  for (const one of document.querySelectorAll("[hx-get]")) htmx.trigger(one, "htmx:abort");
});

tellTimes(document);
tellTimesOfOptions();
tellZone();
countTicked();
followLog();
setInterval(() => tellTimes(document), 5000);
