// SPDX-License-Identifier: Apache-2.0
// Copyright The Sluice authors
//
// Judges exchanges of request and answer by a vendor's published description.
//
//   node judge.mjs DESCRIPTION PATCH EXCHANGES
//
// DESCRIPTION is OpenAPI 3.0, PATCH a JSON merge patch (RFC 7396) with what it lacks, EXCHANGES a JSON
// array of {method, path, request, status, answer}. Prints what does not fit; exit code 1 then. A request
// is judged only where it was accepted: what was refused is meant to be wrong.
import { readFileSync } from "node:fs";
import Ajv from "ajv";
import addFormats from "ajv-formats";

const [description, patch, exchanges] = process.argv.slice(2, 5).map((f) => JSON.parse(readFileSync(f, "utf8")));

/** RFC 7396. */
function merge(to, from) {
  if (from === null || typeof from !== "object" || Array.isArray(from)) return from;
  const out = to !== null && typeof to === "object" && !Array.isArray(to) ? { ...to } : {};
  for (const [name, value] of Object.entries(from)) {
    if (value === null) delete out[name];
    else out[name] = merge(out[name], value);
  }
  return out;
}

/** OpenAPI 3.0 says `nullable` beside a `$ref` or an enum, which JSON Schema does not know. */
function plain(node) {
  if (Array.isArray(node)) return node.map(plain);
  if (node === null || typeof node !== "object") return node;
  const { nullable, example, discriminator, ...rest } = node;
  const out = Object.fromEntries(Object.entries(rest).map(([name, value]) => [name, plain(value)]));
  return nullable === true ? { anyOf: [{ type: "null" }, out] } : out;
}

const document = merge(description, patch);
const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: true });
addFormats(ajv);
ajv.addSchema({ $id: "doc:/", components: plain(document.components) }, "doc:/");
const compiled = new Map();

function validator(schema) {
  const key = JSON.stringify(schema);
  if (!compiled.has(key)) {
    const text = JSON.stringify(plain(schema)).replaceAll('"#/components/', '"doc:/#/components/');
    compiled.set(key, ajv.compile(JSON.parse(text)));
  }
  return compiled.get(key);
}

/** The operation of a path, which may stand behind a server's base path. */
function operation(method, path) {
  const bare = path.split("?")[0];
  for (const [template, item] of Object.entries(document.paths)) {
    const pattern = new RegExp(`^${template.replace(/\{[^}]+\}/g, "[^/]+")}$`);
    if (pattern.test(bare) && item[method.toLowerCase()]) return [template, item[method.toLowerCase()]];
  }
  return [];
}

function schemaOf(part) {
  if (part?.$ref) {
    const found = part.$ref.split("/").slice(1).reduce((node, name) => node[name], document);
    return schemaOf(found);
  }
  return part?.content?.["application/json"]?.schema;
}

const complaints = [];
const seen = new Set();

for (const { method, path, request, status, answer } of exchanges) {
  const [template, found] = operation(method, path);
  const where = `${method} ${path} ${status}`;
  if (!found) {
    complaints.push(`${where}: not described`);
    continue;
  }
  seen.add(`${method.toUpperCase()} ${template}`);
  const response = found.responses[String(status)] ?? found.responses.default;
  if (!response) complaints.push(`${where}: this status is not described`);
  const pairs = [["answer", schemaOf(response), answer]];
  if (status < 300 && request !== null) pairs.push(["request", schemaOf(found.requestBody), request]);
  for (const [what, schema, value] of pairs) {
    if (!schema || value === null) continue;
    const valid = validator(schema);
    if (!valid(value)) complaints.push(`${where}: ${what}: ${ajv.errorsText(valid.errors)}: ${JSON.stringify(value)}`);
  }
}
for (const line of complaints) console.log(line);
console.log(`${exchanges.length} exchanges of ${seen.size} operations judged`);
process.exit(complaints.length ? 1 : 0);
