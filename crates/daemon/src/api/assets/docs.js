// The viewer of /openapi.json: operations by tag, with parameters, bodies, answers and schemas, and a filter.

import { byId, clean, h } from "./dom.js";
import { Refused, call, useToken } from "./connection.js";

const METHODS = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];
const DEEPEST = 6;

let described = null;

/** What `{"$ref": "#/…"}` points to. */
function follow(thing) {
  let seen = thing;
  for (let hops = 0; seen?.$ref && hops < 10; hops += 1) {
    const way = seen.$ref.replace(/^#\//, "").split("/").map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
    seen = way.reduce((place, part) => (place && Object.hasOwn(place, part) ? place[part] : undefined), described);
  }
  return seen ?? {};
}

const refName = (schema) => (schema?.$ref ? schema.$ref.split("/").pop() : null);

/** A schema's type in a few words, with a link where it has a name. */
function typed(schema) {
  const name = refName(schema);
  if (name) return [h("a", { href: `#schema-${encodeURIComponent(name)}`, "data-schema": name }, clean(name))];
  if (schema === true || schema === undefined) return ["anything"];
  const choices = schema.oneOf ?? schema.anyOf ?? schema.allOf;
  if (choices) return choices.flatMap((one, place) => [place > 0 ? (schema.allOf ? " and " : " or ") : "", ...typed(one)]);
  if (schema.const !== undefined) return [h("code", null, JSON.stringify(schema.const))];
  if (schema.enum) return schema.enum.flatMap((one, place) => [place > 0 ? " or " : "", h("code", null, JSON.stringify(one))]);
  const types = [schema.type ?? (schema.properties ? "object" : "anything")].flat();
  return types.flatMap((type, place) => {
    const said = place > 0 ? [" or "] : [];
    if (type === "array") return [...said, "list of ", ...typed(schema.items)];
    if (type === "object" && schema.additionalProperties && schema.additionalProperties !== true) {
      return [...said, "object of ", ...typed(schema.additionalProperties)];
    }
    return [...said, schema.format && type !== "null" ? `${type} (${schema.format})` : String(type)];
  });
}

/** Text with `code` in it, as the comments it is made from have. */
const prose = (text) => h("p", { class: "prose" }, clean(text).split("`").map((part, place) => (place % 2 === 1 ? h("code", null, part) : part)));

function limits(schema) {
  const said = [];
  const say = (key, text) => schema?.[key] !== undefined && said.push(`${text} ${JSON.stringify(schema[key])}`);
  say("minimum", "at least");
  say("maximum", "at most");
  say("minLength", "length at least");
  say("maxLength", "length at most");
  say("pattern", "pattern");
  say("default", "default");
  return said.length > 0 ? `; ${said.join(", ")}` : "";
}

function field(name, schema, required, deep) {
  const plain = schema?.$ref ? {} : schema;
  const inner = plain?.properties ? plain : plain?.items?.properties ? plain.items : null;
  return h("li", null,
    h("code", null, clean(name)), " ",
    h("span", { class: "muted" }, ...typed(schema), limits(plain), required ? ", required" : ""),
    (schema?.description ?? plain?.description) && prose(schema.description ?? plain.description),
    inner && deep < DEEPEST && fields(inner, deep + 1));
}

function fields(schema, deep = 0) {
  const needed = new Set(schema.required ?? []);
  return h("ul", { class: "fields" }, Object.entries(schema.properties ?? {}).map(([name, inner]) => field(name, inner, needed.has(name), deep)));
}

function schemaView(schema) {
  const parts = (schema.allOf ?? []).map((one) => follow(one)).filter((one) => one.properties);
  return [
    h("p", { class: "muted" }, ...typed(schema), limits(schema)),
    schema.properties && fields(schema),
    ...parts.map((part) => fields(part)),
    example(schema),
  ];
}

function example(thing) {
  const value = thing?.example ?? thing?.examples?.[0] ?? Object.values(thing?.examples ?? {})[0]?.value;
  if (value === undefined) return null;
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  return h("pre", { class: "small", tabindex: "0", "aria-label": "Example" }, clean(text));
}

function content(holder) {
  return Object.entries(holder.content ?? {}).flatMap(([kind, media]) => [
    h("p", { class: "muted" }, clean(kind), ": ", ...(media.schema ? typed(media.schema) : ["text"])),
    media.schema?.properties && fields(media.schema),
    media.schema?.items?.properties && fields(media.schema.items),
    example(media),
  ]).filter(Boolean);
}

function parameters(list) {
  if (list.length === 0) return [];
  return [h("h3", null, "Parameters"), h("ul", { class: "fields" }, list.map((parameter) => h("li", null,
    h("code", null, clean(parameter.name)), " ",
    h("span", { class: "muted" }, `in the ${clean(parameter.in)}, `, ...typed(parameter.schema), limits(parameter.schema), parameter.required ? ", required" : ""),
    parameter.description && prose(parameter.description))))];
}

function operation(path, method, shared, what) {
  const all = [...shared, ...(what.parameters ?? [])].map(follow);
  const body = what.requestBody && follow(what.requestBody);
  const scopes = (what.security ?? described.security ?? []).flatMap((one) => Object.values(one).flat());
  return entry(`${method} ${path} ${what.summary ?? ""} ${what.description ?? ""} ${(what.tags ?? []).join(" ")}`, [
    h("span", { class: "method", "data-method": method }, method.toUpperCase()),
    h("code", null, clean(path)),
    what.summary && h("span", { class: "muted" }, clean(what.summary)),
    what.deprecated && h("span", { class: "tag bad" }, "deprecated"),
  ], () => [
    what.description && prose(what.description),
    scopes.length > 0 && h("p", { class: "muted" }, `Scope: ${[...new Set(scopes)].map(clean).join(", ")}`),
    ...parameters(all),
    body && h("h3", null, body.required ? "Body (required)" : "Body"),
    body?.description && prose(body.description),
    ...(body ? content(body) : []),
    h("h3", null, "Answers"),
    h("ul", { class: "answers" }, Object.entries(what.responses ?? {}).map(([code, answer]) => {
      const seen = follow(answer);
      return h("li", null, h("strong", null, clean(code)), " ", clean(seen.description ?? ""), content(seen));
    })),
  ]);
}

/** Something that opens; what is in it is made when it is opened first. */
function entry(words, head, build) {
  const box = h("details", { class: "entry" }, h("summary", null, head));
  box.words = words.toLowerCase();
  box.fill = () => {
    if (box.filled) return;
    box.filled = true;
    box.append(h("div", null, build()));
  };
  box.addEventListener("toggle", () => box.open && box.fill());
  return box;
}

function render() {
  const info = described.info ?? {};
  byId("title").textContent = clean(info.title ?? "API");
  byId("version").textContent = `${clean(info.version ?? "")}, OpenAPI ${clean(described.openapi ?? "")}`;
  byId("description").replaceChildren(prose(info.description ?? ""));
  const groups = new Map((described.tags ?? []).map((tag) => [tag.name, { text: tag.description, list: [] }]));
  for (const [path, item] of Object.entries(described.paths ?? {})) {
    for (const method of METHODS.filter((one) => item[one])) {
      const tag = item[method].tags?.[0] ?? "other";
      if (!groups.has(tag)) groups.set(tag, { list: [] });
      groups.get(tag).list.push(operation(path, method, item.parameters ?? [], item[method]));
    }
  }
  byId("operations").replaceChildren(...[...groups].filter(([, group]) => group.list.length > 0).map(([tag, group]) => h("section", { "aria-label": clean(tag) },
    h("h2", { class: "group" }, clean(tag)), group.text && h("p", { class: "hint" }, clean(group.text)), group.list)));
  const schemas = Object.entries(described.components?.schemas ?? {});
  byId("schemas").querySelector(".body").replaceChildren(...schemas.map(([name, schema]) => {
    const box = entry(`${name} ${schema.description ?? ""}`, [h("code", null, clean(name)), schema.description && h("span", { class: "muted" }, clean(schema.description))], () => schemaView(schema));
    box.id = `schema-${encodeURIComponent(name)}`;
    return box;
  }));
  byId("docs").hidden = false;
  filter();
}

function filter() {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const section of document.querySelectorAll("#operations section, #schemas")) {
    let here = 0;
    for (const box of section.querySelectorAll(".entry")) {
      box.hidden = !words.every((word) => box.words.includes(word));
      if (!box.hidden) here += 1;
    }
    section.hidden = here === 0;
    if (section.id !== "schemas") shown += here;
  }
  byId("found").textContent = `${shown} ${shown === 1 ? "operation" : "operations"}`;
}

function reveal(name) {
  const box = byId(`schema-${encodeURIComponent(name)}`);
  if (!box) return;
  byId("filter").value = "";
  filter();
  box.open = true;
  box.scrollIntoView({ block: "start" });
  box.querySelector("summary").focus();
}

async function load() {
  try {
    described = await call("GET", "openapi.json");
    byId("login").hidden = true;
    byId("wrong").textContent = "";
    render();
  } catch (error) {
    const token = error instanceof Refused && error.status === 401;
    const asked = !byId("login").hidden;
    byId("login").hidden = !token;
    byId("token-error").textContent = asked && token ? clean(error.message) : "";
    byId("wrong").textContent = token ? "" : `The description cannot be read: ${clean(error.message)}.`;
    if (token) byId("token").focus();
  }
}

byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(byId("token").value.trim());
  load();
});
byId("filter").addEventListener("input", filter);
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-schema]");
  if (!link) return;
  event.preventDefault();
  reveal(link.dataset.schema);
});
load();
