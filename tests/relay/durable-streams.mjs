// The reference server of Durable Streams, filled with given events: the peer of the bench.
//
//   node durable-streams.mjs EVENTS STATE CONTENT_TYPE
//
// EVENTS is an NDJSON file, STATE an empty directory for the server's files. With the content type
// application/json the server tells messages apart; anything else is bytes to it.
//
// stdout carries one line, once every event is stored: {"ready":true,"url"}, or
// {"ready":false,"error"}. Runs until the end of stdin.

import fs from "node:fs";
import process from "node:process";
import readline from "node:readline";
import { DurableStreamTestServer } from "@durable-streams/server";

// As much as the project's own producer puts into a request unless it is told otherwise.
const BATCH_BYTES = 1024 * 1024;

// stdout belongs to the protocol.
console.log = console.info = console.debug = console.error;

const [events, state, contentType] = process.argv.slice(2);
const isJson = contentType === "application/json";

function printLine(value) {
	process.stdout.write(`${JSON.stringify(value)}\n`);
}

async function send(url, method, body) {
	const answer = await fetch(url, { method, headers: { "Content-Type": contentType }, body });
	if (!answer.ok) throw new Error(`${method}: ${answer.status} ${await answer.text()}`);
}

async function appendAll(url) {
	const append = (lines) =>
		send(url, "POST", isJson ? `[${lines.join(",")}]` : `${lines.join("\n")}\n`);
	let lines = [];
	let bytes = 0;
	for await (const line of readline.createInterface({ input: fs.createReadStream(events) })) {
		lines.push(line);
		bytes += Buffer.byteLength(line);
		if (bytes < BATCH_BYTES) continue;
		await append(lines);
		lines = [];
		bytes = 0;
	}
	if (lines.length > 0) await append(lines);
}

async function start() {
	// With a directory it keeps streams in files, and syncs them at every append.
	const server = new DurableStreamTestServer({ port: 0, dataDir: state });
	const url = `${await server.start()}/events`;
	await send(url, "PUT");
	await appendAll(url);
	return url;
}

// Without stopping the server, which waits for connections that its reader may keep open.
process.stdin.on("end", () => process.exit()).resume();
try {
	printLine({ ready: true, url: await start() });
} catch (error) {
	printLine({ ready: false, error: String(error?.message ?? error) });
	process.exit(1);
}
