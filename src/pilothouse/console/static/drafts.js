// Keeps what is typed into a form in this tab, until it was applied, discarded or somebody logs out: a reload, a lost
// connection or an ended session takes nothing.
"use strict";

const draftForm = document.querySelector("form[data-draft]");
const draftKey = `pilothouse-draft ${draftForm.dataset.draft} ${new URL(draftForm.action).pathname}${new URL(draftForm.action).search}`;
const notTyped = new Set(["csrf", "once"]);
let draftTimer = 0;

function typedFields() {
  return [...new FormData(draftForm)].filter(([name, value]) => !notTyped.has(name) && typeof value === "string");
}

function keepDraft() {
  try {
    sessionStorage.setItem(draftKey, JSON.stringify(typedFields()));
  } catch {
    // It is full or switched off: then the tab keeps nothing.
  }
}

function restoreDraft() {
  const kept = sessionStorage.getItem(draftKey);
  if (kept === null || !("fresh" in draftForm.dataset) || kept === JSON.stringify(typedFields())) return;
  const fields = new Map(JSON.parse(kept));
  for (const one of draftForm.elements) {
    if (!one.name || notTyped.has(one.name) || one.tagName === "BUTTON") continue;
    if (one.type === "checkbox") one.checked = fields.has(one.name);
    else if (one.type === "radio") one.checked = fields.get(one.name) === one.value;
    else if (fields.has(one.name)) one.value = fields.get(one.name);
  }
  document.querySelector("[data-restored]").hidden = false;
}

restoreDraft();
draftForm.addEventListener("input", () => { clearTimeout(draftTimer); draftTimer = setTimeout(keepDraft, 300); });
draftForm.addEventListener("submit", keepDraft);
window.addEventListener("pagehide", () => { if (draftTimer) keepDraft(); });
document.addEventListener("drafts:ended", () => { clearTimeout(draftTimer); draftTimer = 0; });
document.querySelector("[data-discard]")?.addEventListener("click", () => {
  clearTimeout(draftTimer);
  draftTimer = 0;
  sessionStorage.removeItem(draftKey);
  location.assign(draftForm.action);
});
