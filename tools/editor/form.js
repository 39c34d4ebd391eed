// A form beside the text, made from the chart's values.schema.json: what is typed into either shows in the other. Only
// what was typed is in the text, and its comments stay.
import { parseDocument } from "yaml";

const DEEPEST = 5;
const MOST_FIELDS = 300;

function element(name, text = "", attributes = {}) {
  const made = Object.assign(document.createElement(name), { textContent: text });
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// Schemas may be anything that a chart's author wrote: what is not understood is left to the text.
function resolve(schema, root) {
  let found = schema;
  for (let steps = 0; steps < 10 && typeof found?.$ref === "string"; steps++) {
    if (!found.$ref.startsWith("#/")) return {};
    found = found.$ref.slice(2).split("/").reduce(
      (node, key) => node?.[decodeURIComponent(key).replaceAll("~1", "/").replaceAll("~0", "~")], root);
  }
  return typeof found === "object" && found !== null ? found : {};
}

function typeOf(schema) {
  const types = [schema.type].flat().filter((one) => one !== "null");
  return types.length === 1 ? types[0] : undefined;
}

function control(tell, schema, id) {
  const type = typeOf(schema);
  const options = Array.isArray(schema.enum) ? schema.enum.filter((one) => one === null || typeof one !== "object")
    : type === "boolean" ? [true, false] : null;
  if (options === null) {
    if (!["string", "integer", "number"].includes(type)) return null;
    const field = element("input", "", { id, autocomplete: "off", spellcheck: "false" });
    if (type !== "string") field.inputMode = type === "integer" ? "numeric" : "decimal";
    if (["string", "number"].includes(typeof schema.default)) field.placeholder = String(schema.default);
    const number = (text) => (text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : text);
    return { field, read: () => (type === "string" ? field.value : number(field.value)), show: String };
  }
  const field = element("select", "", { id });
  field.append(element("option", schema.default === undefined ? tell("notGiven") : tell("notGivenBut", { value: JSON.stringify(schema.default) }), { value: "" }));
  for (const one of options) field.append(element("option", String(one), { value: JSON.stringify(one) }));
  return { field, read: () => JSON.parse(field.value), show: (value) => JSON.stringify(value) ?? "" };
}

function build(tell, schema, root, path, fields) {
  const made = [];
  const required = new Set(Array.isArray(schema.required) ? schema.required : []);
  for (const [name, below] of Object.entries(schema.properties ?? {})) {
    if (fields.length >= MOST_FIELDS) break;
    const one = resolve(below, root);
    const here = [...path, name];
    const id = `form-${fields.length}`;
    const title = typeof one.title === "string" && one.title ? tell("titled", { title: one.title, name }) : name;
    const said = typeof one.description === "string" ? one.description : "";
    const used = control(tell, one, id);
    const row = element("div", "", { class: "form-row" });
    if (used !== null) {
      row.append(element("label", required.has(name) ? tell("required", { title }) : title, { for: id }), used.field);
      if (said) {
        row.append(element("p", said, { class: "hint", id: `${id}-said`, dir: "auto" }));
        used.field.setAttribute("aria-describedby", `${id}-said`);
      }
      fields.push({ path: here, ...used });
      made.push(row);
    } else if (one.properties && here.length < DEEPEST) {
      const group = element("fieldset");
      group.append(element("legend", title), ...(said ? [element("p", said, { class: "hint", dir: "auto" })] : []));
      group.append(...build(tell, one, root, here, fields));
      made.push(group);
    } else {
      row.append(element("p", tell("inText", { title }), { class: "hint" }));
      made.push(row);
    }
  }
  return made;
}

const joined = (...texts) => texts.filter(Boolean).join("\n");

// Takes a value away, and the mappings that are empty without it; comments above them go to what follows.
function remove(values, whole) {
  let comment = "";
  for (let path = whole; path.length; path = path.slice(0, -1)) {
    const above = path.length > 1 ? values.getIn(path.slice(0, -1), true) : values.contents;
    const index = above?.items?.findIndex((pair) => String(pair.key?.value ?? pair.key) === path.at(-1)) ?? -1;
    if (index < 0) return;
    const [gone] = above.items.splice(index, 1);
    comment = joined(gone.key.commentBefore, comment);
    const next = above.items[index];
    if (next) next.key.commentBefore = joined(comment, next.key.commentBefore) || undefined;
    if (next) return;
    if (above.items.length || above === values.contents) {
      above.comment = joined(above.comment, comment) || undefined;
      return;
    }
    comment = joined(above.commentBefore, comment, above.comment);
  }
}

// What is left of a text without values.
function comments(values) {
  const kept = [values.commentBefore, values.contents.commentBefore, values.contents.comment, values.comment];
  return kept.filter(Boolean).flatMap((text) => text.split("\n")).map((line) => (line ? `#${line}\n` : "\n")).join("");
}

// Returns what the editor calls when the text changed; ``write`` puts a text into the editor.
export function makeForm(form, area, tools, tell, write) {
  const button = element("button", tell("asForm"), { type: "button", "aria-pressed": "false" });
  const panel = element("div", "", { class: "schema-form", hidden: "" });
  const told = element("p", "", { class: "fault", role: "status" });
  const chart = form.querySelector("[name=chart]");
  let fields = [];
  tools.append(button);
  tools.after(panel);

  function read() {
    if (panel.hidden) return;
    const values = parseDocument(area.value);
    told.textContent = values.errors.length ? tell("noYaml") : "";
    for (const one of fields) {
      one.field.disabled = values.errors.length > 0;
      if (one.field === document.activeElement || one.field.disabled) continue;
      let value;
      try {
        value = values.toJS({ maxAliasCount: 100 });
      } catch {
        return;
      }
      for (const key of one.path) value = value !== null && typeof value === "object" ? value[key] : undefined;
      one.field.value = value === undefined || (value !== null && typeof value === "object") ? "" : one.show(value);
    }
  }

  function change(one) {
    const values = parseDocument(area.value);
    if (values.errors.length) return;
    try {
      if (one.field.value === "") {
        remove(values, one.path);
      } else {
        values.setIn(one.path, one.read());
      }
      told.textContent = "";
    } catch {
      told.textContent = tell("cannotSet", { path: one.path.join(".") });
      return;
    }
    write(values.contents?.items?.length === 0 ? comments(values) : values.toString({ lineWidth: 0 }));
  }

  async function load() {
    fields = [];
    panel.replaceChildren(told);
    told.textContent = "";
    const answer = chart.value ? await fetch(`${area.dataset.charts}${encodeURIComponent(chart.value)}/schema`) : null;
    const schema = answer?.ok && !answer.redirected ? await answer.json().catch(() => null) : null;
    if (schema === null || typeof schema !== "object") {
      panel.append(element("p", tell(chart.value ? "noSchema" : "noChart"), { class: "hint" }));
      return;
    }
    panel.append(...build(tell, resolve(schema, schema), schema, [], fields));
    if (!fields.length) panel.append(element("p", tell("noValues"), { class: "hint" }));
    for (const one of fields) one.field.addEventListener("input", (event) => { event.stopPropagation(); change(one); });
    read();
  }

  button.addEventListener("click", () => {
    panel.hidden = !panel.hidden;
    button.setAttribute("aria-pressed", String(!panel.hidden));
    if (!panel.hidden) load();
  });
  chart.addEventListener("change", () => { if (!panel.hidden) load(); });
  return { read };
}
