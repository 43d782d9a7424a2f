// The `eventsource` package as a reader that resumes by itself.
//
//   node eventsource.mjs URL CREDENTIAL
//
// One JSON object per line on stdout: {"opened":true}, {"lost":true} when the connection has
// ended, {"message":…} with the frame of each webhook. Runs until the end of stdin.

import process from "node:process";
import { EventSource } from "eventsource";

const [url, credential] = process.argv.slice(2);

function printLine(value) {
	process.stdout.write(`${JSON.stringify(value)}\n`);
}

const source = new EventSource(url, {
	fetch: (input, init) =>
		fetch(input, { ...init, headers: { ...init.headers, Authorization: `Bearer ${credential}` } }),
});
source.addEventListener("open", () => printLine({ opened: true }));
source.addEventListener("error", ({ code }) => printLine({ lost: true, code }));
source.addEventListener("message", ({ data }) => printLine({ message: JSON.parse(data) }));

// The package doesn't keep a process alive while it waits to dial again.
process.stdin.on("end", () => process.exit()).resume();
