// Measures codecs for segments in wasm, where the relay runs them, and prints a table. The clock is
// processor time, so that other work on the machine hardly counts; each figure is the middle one.
//
//   node codec.mjs codec.wasm golden.ndjson.br

import { readFile } from "node:fs/promises";
import process from "node:process";

const MEBIBYTE = 1024 * 1024;
const SIZES = [MEBIBYTE, 4 * MEBIBYTE];
const ROUNDS = 7;
const ROUND_MS_MIN = 100;

const SEGMENT = 0;
const BROTLI = 1;
const GZIP = 2;
const ZSTD = 3;
const BROTLI_FOUR_BYTES = 4;
const ROWS = [
	{ name: "segment", codec: SEGMENT },
	{ name: "brotli 4, window 20", codec: BROTLI, level: 4, window: 20 },
	{ name: "brotli 5, window 18", codec: BROTLI, level: 5, window: 18 },
	{ name: "brotli 5, window 20", codec: BROTLI, level: 5, window: 20 },
	{ name: "the same, four-byte matches", codec: BROTLI_FOUR_BYTES, level: 5, window: 20 },
	{ name: "brotli 5, window 22", codec: BROTLI, level: 5, window: 22 },
	{ name: "brotli 9, window 20", codec: BROTLI, level: 9, window: 20 },
	{ name: "gzip 6", codec: GZIP, level: 6 },
	{ name: "gzip 9", codec: GZIP, level: 9 },
	{ name: "zstd 1", codec: ZSTD, level: 1 },
	{ name: "zstd 3", codec: ZSTD, level: 3 },
	{ name: "zstd 9", codec: ZSTD, level: 9 },
	{ name: "zstd 19", codec: ZSTD, level: 19 },
];

const [wasmPath, goldenPath] = process.argv.slice(2);
const module = await WebAssembly.compile(await readFile(wasmPath));

/** An instance whose memory nothing else has used. */
async function start() {
	const { exports } = await WebAssembly.instantiate(module);
	return {
		...exports,
		give(bytes) {
			const address = exports.input(bytes.length);
			new Uint8Array(exports.memory.buffer, address, bytes.length).set(bytes);
		},
		take() {
			return Buffer.from(exports.memory.buffer, exports.output(), exports.output_length()).subarray();
		},
	};
}

function copy(bytes) {
	return Buffer.concat([bytes]);
}

function median(values) {
	return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}

/** Processor time of one call in seconds, once the engine has optimized it. */
function measure(call) {
	const repeat = (times) => {
		const before = process.cpuUsage();
		for (let i = 0; i < times; i += 1) call();
		const { user, system } = process.cpuUsage(before);
		return (user + system) / 1e6;
	};
	let times = 1;
	while (repeat(times) < ROUND_MS_MIN / 1e3) times *= 2;
	return median(Array.from({ length: ROUNDS }, () => repeat(times) / times));
}

async function peak(bytes, call) {
	const instance = await start();
	instance.give(bytes);
	instance.begin_peak();
	call(instance);
	return instance.peak();
}

async function row({ name, codec, level = 0, window = 0 }, lines) {
	const instance = await start();
	const encode = (instance) => instance.encode(codec, level, window);
	const decode = (instance) => instance.decode(codec, false);
	instance.give(lines);
	encode(instance);
	const encoded = copy(instance.take());
	const encodeSeconds = measure(() => encode(instance));
	instance.give(encoded);
	instance.decode(codec, true);
	if (!instance.take().equals(lines)) throw new Error(`${name} gives back something else`);
	const decodeSeconds = measure(() => decode(instance));
	return [
		name,
		(lines.length / encoded.length).toFixed(2),
		(encoded.length / 1e3).toFixed(0),
		(lines.length / 1e6 / encodeSeconds).toFixed(1),
		(lines.length / 1e6 / decodeSeconds).toFixed(0),
		((await peak(lines, encode)) / 1e6).toFixed(1),
		((await peak(encoded, decode)) / 1e6).toFixed(1),
	];
}

/** What is written here must be what was written where the golden file was made. */
async function checkGolden(path) {
	const golden = await readFile(path);
	const entry = JSON.parse(await readFile(path.replace(".ndjson.br", ".json"), "utf8"));
	const numbers = Buffer.alloc(16);
	numbers.writeBigUInt64LE(BigInt(entry.raw_bytes));
	numbers.writeBigUInt64LE(BigInt(entry.last - entry.first + 1), 8);
	const instance = await start();
	instance.give(Buffer.concat([golden, numbers]));
	instance.decode(SEGMENT, true);
	instance.give(copy(instance.take()));
	instance.encode(SEGMENT, 0, 0);
	if (!instance.take().subarray(0, -16).equals(golden)) throw new Error("the golden file differs");
	console.log("the golden segment is written in wasm as it was natively");
}

await checkGolden(goldenPath);
for (const size of SIZES) {
	const source = await start();
	source.make_traffic(size);
	const lines = copy(source.take());
	const records = lines.toString().split("\n").length - 1;
	console.log(`\n${records} records, ${(lines.length / 1e6).toFixed(2)} MB\n`);
	const head = ["codec", "ratio", "kB", "encode MB/s", "decode MB/s", "encoder MB", "decoder MB"];
	console.log(`| ${head.join(" | ")} |\n|${"---|".repeat(head.length)}`);
	for (const settings of ROWS) console.log(`| ${(await row(settings, lines)).join(" | ")} |`);
}
