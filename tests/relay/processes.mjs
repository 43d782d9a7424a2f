// The workerd processes this Node process has started. Miniflare doesn't tell their ids.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import process from "node:process";

export function workerdProcesses() {
	return fs.existsSync("/proc/self/stat") ? workerdFromProc() : workerdFromPs();
}

export function killWorkerd() {
	for (const { pid } of workerdProcesses()) {
		try {
			process.kill(pid, "SIGKILL");
		} catch (error) {
			if (error.code !== "ESRCH") throw error;
		}
	}
}

function workerdFromProc() {
	const found = [];
	for (const entry of fs.readdirSync("/proc")) {
		if (!/^\d+$/.test(entry)) continue;
		const status = readStatus(entry);
		if (status?.PPid !== String(process.pid) || status.Name !== "workerd") continue;
		if (status.State.startsWith("Z")) continue;
		found.push({
			pid: Number(entry),
			rss_bytes: kibibytes(status.VmRSS),
			rss_peak_bytes: kibibytes(status.VmHWM),
		});
	}
	return found;
}

function readStatus(pid) {
	try {
		const lines = fs.readFileSync(`/proc/${pid}/status`, "utf8").trim().split("\n");
		return Object.fromEntries(lines.map((line) => line.split(/:\s+/, 2)));
	} catch {
		return undefined; // ended between the listing and the reading
	}
}

function kibibytes(text) {
	return Number.parseInt(text ?? "0", 10) * 1024;
}

function workerdFromPs() {
	const lines = execFileSync("ps", ["-A", "-o", "pid=,ppid=,rss=,comm="], { encoding: "utf8" });
	return lines
		.trim()
		.split("\n")
		.map((line) => line.trim().split(/\s+/))
		.filter(([, parent, , name]) => parent === String(process.pid) && name.endsWith("workerd"))
		.map(([pid, , rss]) => ({ pid: Number(pid), rss_bytes: Number(rss) * 1024 }));
}
