// Texts in the language of the page, which gives them to its textarea: those of ours by name, and CodeMirror's own by
// their English.

export function textsOf(area) {
  const { texts, phrases } = JSON.parse(area.dataset.texts);
  const tell = (name, variables) => texts[name].replace(/%\((\w+)\)s/g, (_, variable) => variables[variable]);
  return { tell, phrases };
}
