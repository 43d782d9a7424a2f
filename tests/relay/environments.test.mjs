// Goal: an environment of wrangler.toml lacks nothing that the local relay, and so every other
// test, has. Wrangler's environments inherit neither bindings nor variables.
// Method: resolve each environment as wrangler does and compare it with the top level, with the
// environment's own names taken out.

import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { readRelayConfig } from "./options.mjs";

const root = fileURLToPath(new URL("../..", import.meta.url));

const COMPARED = [
	"vars",
	"durable_objects",
	"migrations",
	"kv_namespaces",
	"r2_buckets",
	"queues",
	"ratelimits",
	"compatibility_date",
	"compatibility_flags",
	"limits",
	"observability",
];

function bindingsOf(environment) {
	const config = readRelayConfig(root, environment);
	const compared = Object.fromEntries(COMPARED.map((field) => [field, config[field]]));
	return JSON.parse(JSON.stringify(compared), withoutEnvironmentNames);
}

// Resources are named after their environment, and each KV namespace and each limiter has an id of
// its own.
function withoutEnvironmentNames(key, value) {
	if (key === "id" || key === "namespace_id") return "<id>";
	if (typeof value !== "string") return value;
	return value.replace(/^(local|develop|production)$|-(local|develop|production)$/, "");
}

for (const environment of ["develop", "production"]) {
	test(`${environment} has every binding and variable of the local relay`, () => {
		const local = bindingsOf(undefined);
		assert.equal(local.durable_objects.bindings.length > 0, true);
		assert.deepEqual(bindingsOf(environment), local);
	});
}
