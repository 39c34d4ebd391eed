// Makes an editor of each textarea that holds YAML. The textarea stays the form's field: without scripts it is all there
// is, and with them it has the same text at any moment.
//
// The editor is in a shadow root because its styles are then a constructed sheet, which the page's policy allows;
// in the document they would be an inline style, which it forbids.
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { yaml } from "@codemirror/lang-yaml";
import {
  bracketMatching, foldGutter, foldKeymap, HighlightStyle, indentOnInput, indentUnit, syntaxHighlighting,
} from "@codemirror/language";
import { forceLinting, linter, lintGutter, lintKeymap } from "@codemirror/lint";
import { unifiedMergeView } from "@codemirror/merge";
import { highlightSelectionMatches, search, searchKeymap } from "@codemirror/search";
import { Compartment, EditorState } from "@codemirror/state";
import { drawSelection, EditorView, highlightActiveLine, highlightSpecialChars, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";

import { makeForm } from "./form.js";
import { textsOf } from "./texts.js";

const colours = HighlightStyle.define([
  { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: "var(--accent)" },
  { tag: [tags.string, tags.special(tags.string)], color: "var(--ok)" },
  { tag: [tags.number, tags.bool, tags.null, tags.keyword, tags.typeName, tags.labelName], color: "var(--busy)" },
  { tag: [tags.comment, tags.meta], color: "var(--soft)", fontStyle: "italic" },
]);

const looks = EditorView.theme({
  "&": {
    border: "1px solid var(--line)", borderRadius: "6px", backgroundColor: "var(--surface)", color: "var(--text)",
    maxHeight: "70vh", fontSize: "13px",
  },
  "&.cm-focused": { outline: "2px solid var(--accent)", outlineOffset: "2px" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.55" },
  ".cm-content, .cm-gutter": { minHeight: "18rem" },
  ".cm-content": { caretColor: "var(--text)" },
  ".cm-cursor": { borderLeftColor: "var(--text)" },
  ".cm-gutters": { backgroundColor: "var(--raised)", color: "var(--soft)", border: "0", borderRight: "1px solid var(--line)" },
  ".cm-activeLine": { backgroundColor: "transparent", boxShadow: "inset 0 0 0 100vmax rgb(127 127 127 / 7%)" },
  ".cm-activeLineGutter": { backgroundColor: "var(--line)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": {
    backgroundColor: "var(--accent-ground)",
  },
  ".cm-selectionMatch": { backgroundColor: "var(--busy-ground)" },
  ".cm-searchMatch": { backgroundColor: "var(--busy-ground)", outline: "1px solid var(--busy)" },
  ".cm-searchMatch-selected": { backgroundColor: "var(--accent-ground)", outline: "1px solid var(--accent)" },
  ".cm-panels": { backgroundColor: "var(--raised)", color: "var(--text)", borderColor: "var(--line)" },
  ".cm-panels button, .cm-panels input": {
    backgroundColor: "var(--surface)", backgroundImage: "none", color: "var(--text)", border: "1px solid var(--line)",
    borderRadius: "4px", padding: "0.2rem 0.5rem", margin: "0.2rem 0.3rem", minHeight: "26px", minWidth: "26px",
  },
  ".cm-panels input[type=checkbox]": { minHeight: "0", minWidth: "0", verticalAlign: "middle" },
  ".cm-tooltip": { backgroundColor: "var(--raised)", color: "var(--text)", border: "1px solid var(--line)" },
  ".cm-foldPlaceholder": { backgroundColor: "var(--raised)", color: "var(--soft)", border: "1px solid var(--line)" },
  ".cm-diagnostic-error": { borderLeft: "3px solid var(--bad)" },
  // In place of the images of CodeMirror, which the page's policy forbids.
  ".cm-lint-marker-error": { content: "normal", color: "var(--bad)", width: "auto", height: "auto", textAlign: "center" },
  ".cm-lint-marker-error::before": { content: "'\\25cf'" },
  ".cm-lintRange-error": {
    backgroundImage: "none", textDecoration: "underline wavy var(--bad)", textDecorationSkipInk: "none",
  },
  ".cm-changedLine": { backgroundColor: "var(--ok-ground)" },
  ".cm-changedText": { background: "none", textDecoration: "underline var(--ok)" },
  ".cm-deletedChunk": { backgroundColor: "var(--bad-ground)", color: "var(--bad)" },
  ".cm-deletedChunk .cm-deletedText": { background: "none", textDecoration: "line-through" },
  ".cm-changedLineGutter": { background: "var(--ok)" },
  ".cm-deletedLineGutter": { background: "var(--bad)" },
});

// `said`: what the server said of the text when it was sent; what is told below takes its place.
async function judge(form, url, told, said, tell) {
  const answer = await fetch(url, { method: "POST", body: new URLSearchParams(new FormData(form)) });
  if (!answer.ok || !answer.headers.get("content-type")?.startsWith("application/json")) {
    told.textContent = tell("unjudged");
    return [];
  }
  const { problems } = await answer.json();
  told.replaceChildren(...problems.map((one) => {
    const line = document.createElement("p");
    line.textContent = tell("line", { number: one.line, text: one.text });
    return line;
  }));
  if (problems.length) said?.remove();
  return problems;
}

function enhance(area) {
  const form = area.form;
  const { tell, phrases } = textsOf(area);
  const label = form.querySelector(`label[for="${area.id}"]`);
  const host = document.createElement("div");
  const told = document.createElement("div");
  const said = document.getElementById(`fault-${area.name}`);
  const tools = document.createElement("div");
  host.className = "editor";
  tools.className = "tools";
  told.className = "fault";
  told.setAttribute("role", "status");
  area.after(tools, host, told);
  const root = host.attachShadow({ mode: "open" });
  const compared = new Compartment();
  const schemaForm = makeForm(form, area, tools, tell, (text) => {
    const old = view.state.doc.toString();
    let from = 0;
    while (from < old.length && old[from] === text[from]) from++;
    let left = 0;
    while (left < Math.min(old.length, text.length) - from && old.at(-1 - left) === text.at(-1 - left)) left++;
    view.dispatch({ changes: { from, to: old.length - left, insert: text.slice(from, text.length - left) } });
  });
  const judged = linter(async (view) => {
    area.value = view.state.doc.toString();
    const problems = await judge(form, area.dataset.judge, told, said, tell).catch(() => []);
    return problems.filter((one) => one.line <= view.state.doc.lines).map((one) => {
      const line = view.state.doc.line(one.line);
      const from = Math.min(line.from + Math.max(one.column - 1, line.text.search(/\S|$/)), line.to);
      return { from, to: line.to, severity: "error", message: one.text };
    });
  }, { delay: 700 });
  const view = new EditorView({
    root,
    parent: root,
    state: EditorState.create({
      doc: area.value,
      extensions: [
        EditorState.phrases.of(phrases), lineNumbers(), foldGutter(), lintGutter(), highlightSpecialChars(), history(), drawSelection(), indentOnInput(),
        bracketMatching(), highlightActiveLine(), highlightSelectionMatches(), search({ top: true }),
        syntaxHighlighting(colours), yaml(), indentUnit.of("  "), EditorState.tabSize.of(2), looks, judged,
        compared.of([]),
        // Tab leaves the editor, as it does any field; Ctrl+] and Ctrl+[ indent.
        keymap.of([...defaultKeymap, ...searchKeymap, ...historyKeymap, ...foldKeymap, ...lintKeymap]),
        EditorView.contentAttributes.of({
          "aria-label": tell("label", { label: label.textContent.trim() }), spellcheck: "false",
        }),
        // Chromium would give what is typed over a selection the style of that, inline, which the page's policy forbids.
        EditorView.domEventHandlers({
          beforeinput(event, editor) {
            if (event.inputType !== "insertText" || event.data === null || editor.composing) return false;
            editor.dispatch(editor.state.replaceSelection(event.data), { userEvent: "input.type", scrollIntoView: true });
            return true;
          },
        }),
        EditorView.updateListener.of((update) => {
          if (!update.docChanged) return;
          area.value = update.state.doc.toString();
          area.dispatchEvent(new Event("input", { bubbles: true }));
          schemaForm.read();
        }),
      ],
    }),
  });
  area.hidden = true;
  schemaForm.read();
  label.addEventListener("click", (event) => { event.preventDefault(); view.focus(); });
  for (const field of form.querySelectorAll("[name=chart], [name=mode], [name=skip_schema_validation]")) {
    field.addEventListener("change", () => forceLinting(view));
  }
  const now = document.getElementById("values-now");
  if (now !== null) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = tell("changes");
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      const shows = button.getAttribute("aria-pressed") === "true";
      const merge = () => unifiedMergeView({ original: now.value, mergeControls: false, syntaxHighlightDeletions: false });
      view.dispatch({ effects: compared.reconfigure(shows ? [] : merge()) });
      button.setAttribute("aria-pressed", String(!shows));
    });
    tools.append(button);
  }
  return view;
}

for (const area of document.querySelectorAll("textarea[data-yaml]")) enhance(area);
