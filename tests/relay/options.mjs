// Turns wrangler.toml and the built Worker into Miniflare's options.

import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import process from "node:process";
import { convertV4MiniflareOptions, Log, LogLevel } from "miniflare";
import { unstable_getMiniflareWorkerOptions, unstable_readConfig } from "wrangler";

const HOST = "127.0.0.1";
const FLOOR_PATH = path.join(import.meta.dirname, "floor.mjs");

class StderrLog extends Log {
	log(message) {
		process.stderr.write(`${message}\n`);
	}
}

export function readRelayConfig(root, environment) {
	return unstable_readConfig(
		{ config: path.join(root, "wrangler.toml"), env: environment },
		{ hideWarnings: true },
	);
}

// Miniflare's own failure for a busy port comes late and doesn't name it.
export function requireFreePort(port) {
	if (port === 0) return Promise.resolve();
	return new Promise((resolve, reject) => {
		const probe = net.createServer();
		probe.once("error", (error) => {
			const advice = "stop what listens there, or choose another port";
			const message = `port ${port} can't be used (${error.code}): ${advice}`;
			reject(new Error(message, { cause: error }));
		});
		probe.listen(port, HOST, () => probe.close(resolve));
	});
}

export function relayOptions(root, config, settings, onRestart) {
	const relay = withoutBindings(relayWorker(root, config, settings), settings.unbound ?? []);
	const workers = settings.floor ? [relay, floorWorker(config, relay.bindings)] : [relay];
	return convertV4MiniflareOptions({
		workers,
		host: HOST,
		port: 0,
		cf: false, // otherwise asks the internet where this machine is
		logRequests: false,
		log: new StderrLog(LogLevel.WARN),
		handleStructuredLogs: ({ message }) => process.stderr.write(`${message}\n`),
		resourcePersistencePath: settings.state,
		unsafeHandleRuntimeRestart: onRestart,
	});
}

function relayWorker(root, config, settings) {
	const read = () => unstable_getMiniflareWorkerOptions(config, settings.env);
	const { workerOptions } = settings.dev_vars ? read() : quietly(read);
	const { modulesRules: _, ...options } = workerOptions;
	const declared = settings.dev_vars ? workerOptions.bindings : config.vars;
	return {
		...options,
		rootPath: root,
		name: config.name,
		modulesRoot: path.dirname(config.main),
		modules: builtModules(config.main),
		bindings: { ...declared, ...settings.vars },
		unsafeDirectSockets: [{ host: HOST, port: settings.port }],
	};
}

// Wrangler tells of the secrets in .dev.vars also where nobody uses them, in a log that is JSON.
function quietly(run) {
	const { log, info, debug } = console;
	console.log = console.info = console.debug = () => {};
	try {
		return run();
	} finally {
		Object.assign(console, { log, info, debug });
	}
}

function withoutBindings(worker, names) {
	for (const name of names) {
		const kind = ["queueProducers", "r2Buckets", "kvNamespaces", "durableObjects"].find((kind) => name in (worker[kind] ?? {}));
		if (kind === undefined) throw new Error(`no queue, bucket, namespace or object is bound as ${name}`);
		const { [name]: _, ...others } = worker[kind];
		worker[kind] = others;
	}
	return worker;
}

function floorWorker(config, bindings) {
	return {
		name: "floor",
		modulesRoot: path.dirname(FLOOR_PATH),
		modules: [{ type: "ESModule", path: FLOOR_PATH }],
		compatibilityDate: config.compatibility_date,
		compatibilityFlags: config.compatibility_flags,
		bindings: { LINEAR_WEBHOOK_SECRET: bindings.LINEAR_WEBHOOK_SECRET },
		durableObjects: { CHANNELS: { className: "FloorChannel", useSQLite: true } },
		queueProducers: { QUEUE: "floor" },
		queueConsumers: { floor: { maxBatchSize: 100, maxBatchTimeout: 0 } },
		unsafeDirectSockets: [{ host: HOST, port: 0 }],
	};
}

// The entry first, then the wasm and the snippets wasm-bindgen puts beside it.
function builtModules(main) {
	if (!fs.existsSync(main)) {
		throw new Error(`${main} is missing: run \`cargo xtask build\``);
	}
	const directory = path.dirname(main);
	const modules = [{ type: "ESModule", path: main }];
	for (const entry of fs.readdirSync(directory, { recursive: true })) {
		const file = path.join(directory, entry);
		// Names with a leading dot are a build in progress; worker/ only repeats the entry.
		if (file === main || entry.startsWith(".") || entry.startsWith("worker")) continue;
		if (file.endsWith(".wasm")) modules.push({ type: "CompiledWasm", path: file });
		if (file.endsWith(".js")) modules.push({ type: "ESModule", path: file });
	}
	return modules;
}
