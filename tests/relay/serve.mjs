// The relay on local workerd, for `cargo xtask dev`, the demo, the tests and the bench.
//
//   node serve.mjs '{"port":0,"state":null,"vars":{}}'
//
// Settings, all optional, as JSON in the first argument or in EDGERELAY_SERVE:
//   port      number   0 lets the system choose
//   state     string   directory that keeps Durable Objects, KV and R2; null keeps nothing
//   vars      object   variables and secrets; they win over wrangler.toml
//   dev_vars  boolean  also read the secrets in .dev.vars
//   env       string   environment of wrangler.toml; the top-level bindings without it
//   floor     boolean  run floor.mjs as a second Worker in the same process
//   unbound   array    bindings of wrangler.toml to leave out, as if what they name were gone
//
// stdout carries protocol lines only: first {"ready":true,"url",…} or {"ready":false,"error"},
// then one answer per request line on stdin (see requests.mjs). stderr carries the log.
// The end of stdin ends everything, so a parent that dies, however it dies, leaves nothing behind.

import fs from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import readline from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Miniflare } from "miniflare";
import { relayOptions, readRelayConfig, requireFreePort } from "./options.mjs";
import { killWorkerd, workerdProcesses } from "./processes.mjs";
import { answerRequest } from "./requests.mjs";

const DISPOSE_LIMIT_MS = 3000;
const LAST_ANSWER_LIMIT_MS = 10_000;

// Wrangler and Miniflare print advice with console.log; stdout belongs to the protocol.
console.log = console.info = console.debug = console.error;

// Miniflare starts workerd from the path in this variable.
process.env.MINIFLARE_WORKERD_PATH = path.join(import.meta.dirname, "workerd.sh");
process.env.EDGERELAY_WORKERD = createRequire(import.meta.resolve("miniflare"))("workerd").default;

const root = fileURLToPath(new URL("../..", import.meta.url));

function printLine(value) {
	process.stdout.write(`${JSON.stringify(value)}\n`);
}

function readSettings() {
	const text = process.argv[2] ?? process.env.EDGERELAY_SERVE ?? "{}";
	const settings = { port: 0, vars: {}, ...JSON.parse(text) };
	settings.state ??= makeTemporaryState();
	return settings;
}

function makeTemporaryState() {
	const directory = fs.mkdtempSync(path.join(os.tmpdir(), "edgerelay-"));
	process.on("exit", () => fs.rmSync(directory, { recursive: true, force: true }));
	return directory;
}

let stopping;

function stop(miniflare, status) {
	stopping ??= (async () => {
		await Promise.race([miniflare?.dispose().catch(console.error), sleep(DISPOSE_LIMIT_MS)]);
		// A workerd that holds an open stream ignores SIGTERM and can outlive a slow dispose.
		killWorkerd();
		process.exit(status);
	})();
	return stopping;
}

async function start(settings) {
	await requireFreePort(settings.port);
	const config = readRelayConfig(root, settings.env);
	const started = { config, state: settings.state, restarts: 0 };
	const countRestart = () => (started.restarts += 1);
	const miniflare = new Miniflare(relayOptions(root, config, settings, countRestart));
	await miniflare.ready;
	// Straight to the Worker's own socket: Miniflare's entry would add its share to every request.
	const urlOf = async (worker) => (await miniflare.unsafeGetDirectURL(worker)).origin;
	started.miniflare = miniflare;
	started.url = await urlOf(config.name);
	started.floor_url = settings.floor ? await urlOf("floor") : undefined;
	return started;
}

async function serveRequests(lines) {
	for await (const line of lines) {
		if (line.trim() === "") continue;
		const answer = await answerRequest(relay, line);
		printLine(answer);
		if (answer.stopping) break;
	}
	await stop(relay.miniflare, 0);
}

let relay;
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
	process.on(signal, () => stop(relay?.miniflare, 0));
}
// The reader of stdout may be gone before we are; that is the end of stdin's business.
process.stdout.on("error", () => stop(relay?.miniflare, 1));
const input = readline.createInterface({ input: process.stdin });
const lines = input[Symbol.asyncIterator]();
// Once the relay is up, the end of the lines is what ends it, after the last one is answered; one
// that never is holds nothing up for long.
input.once("close", () => {
	if (relay === undefined) stop(undefined, 0);
	else setTimeout(() => stop(relay.miniflare, 0), LAST_ANSWER_LIMIT_MS);
});

try {
	relay = await start(readSettings());
} catch (error) {
	printLine({ ready: false, error: String(error?.message ?? error) });
	await stop(undefined, 1);
}
printLine({
	ready: true,
	url: relay.url,
	floor_url: relay.floor_url,
	pid: process.pid,
	workerd_pid: workerdProcesses()[0]?.pid,
});
await serveRequests(lines);
