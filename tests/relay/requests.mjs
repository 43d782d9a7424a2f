// What a test may ask of the running relay: one JSON object per line, answered in order by one
// JSON object per line, {"ok":true,…} or {"ok":false,"error":"…"}. An `id` is given back.

import fs from "node:fs";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { workerdProcesses } from "./processes.mjs";

const LIST_PAGE_LENGTH = 1000;
const SQL_LIMIT_MS = 5000;

export async function answerRequest(relay, line) {
	let id;
	try {
		const request = JSON.parse(line);
		id = request.id;
		const handler = HANDLERS[request.op];
		if (handler === undefined) {
			throw new Error(`unknown op ${request.op}; known: ${Object.keys(HANDLERS).join(", ")}`);
		}
		return { id, ok: true, ...(await handler(relay, request)) };
	} catch (error) {
		return { id, ok: false, error: String(error?.message ?? error) };
	}
}

const HANDLERS = {
	// {} → where it listens, which processes, how often workerd was restarted after a crash.
	async info(relay) {
		await relay.miniflare.ready;
		return {
			url: relay.url,
			floor_url: relay.floor_url,
			workerd_pid: workerdProcesses()[0]?.pid,
			restarts: relay.restarts,
		};
	},

	// {class, name | object_id, webSockets: "hibernate" | "close"}: drops the object from memory →
	// whether it was there. Doesn't wake it.
	async evict(relay, request) {
		try {
			await relay.miniflare.unsafeEvictDurableObject(relay.config.name, request.class, {
				...identifier(request),
				webSockets: request.webSockets ?? "hibernate",
			});
			return { was_running: true };
		} catch (error) {
			if (!String(error?.message).includes("not currently running")) throw error;
			return { was_running: false };
		}
	},

	// {class} → ids of the objects that have stored anything.
	async objects(relay, request) {
		const ids = await relay.miniflare.listDurableObjectIds(request.class, relay.config.name);
		return { ids };
	},

	// {class, name | object_id, query, bindings} → rows of the object's SQLite as stored on disk;
	// null where the object has stored nothing. Reads only, and doesn't wake the object.
	async sql(relay, request) {
		const file = await storageFile(relay, request);
		if (!fs.existsSync(file)) return { rows: null };
		// workerd locks it for a moment when it finds a log that another one has left.
		const database = new DatabaseSync(file, { readOnly: true, timeout: SQL_LIMIT_MS });
		try {
			return { rows: database.prepare(request.query).all(...(request.bindings ?? [])) };
		} finally {
			database.close();
		}
	},

	// {prefix} → every object: key, size, HTTP and custom metadata.
	async r2_list(relay, request) {
		const bucket = await bucketOf(relay);
		const objects = [];
		let cursor;
		do {
			const page = await bucket.list({
				prefix: request.prefix,
				include: ["httpMetadata", "customMetadata"],
				cursor,
			});
			objects.push(...page.objects.map(describeObject));
			cursor = page.truncated ? page.cursor : undefined;
		} while (cursor !== undefined);
		return { objects };
	},

	// {key} → body as base64, null where there is none.
	async r2_get(relay, request) {
		const object = await (await bucketOf(relay)).get(request.key);
		if (object === null) return { body: null };
		const body = Buffer.from(await object.arrayBuffer()).toString("base64");
		return { body, object: describeObject(object) };
	},

	// {key, body: base64, metadata}
	async r2_put(relay, request) {
		const body = Buffer.from(request.body, "base64");
		await (await bucketOf(relay)).put(request.key, body, { customMetadata: request.metadata });
	},

	// {key}
	async r2_delete(relay, request) {
		await (await bucketOf(relay)).delete(request.key);
	},

	// {prefix} → every key with its metadata and expiry.
	async kv_list(relay, request) {
		const namespace = await relay.miniflare.getKVNamespace("INDEX", relay.config.name);
		const keys = [];
		let cursor;
		do {
			const page = await namespace.list({
				prefix: request.prefix,
				limit: LIST_PAGE_LENGTH,
				cursor,
			});
			keys.push(...page.keys);
			cursor = page.list_complete ? undefined : page.cursor;
		} while (cursor !== undefined);
		return { keys };
	},

	// {key, metadata}: a key with an empty value.
	async kv_put(relay, request) {
		const namespace = await relay.miniflare.getKVNamespace("INDEX", relay.config.name);
		await namespace.put(request.key, "", { metadata: request.metadata });
	},

	// {key}
	async kv_delete(relay, request) {
		const namespace = await relay.miniflare.getKVNamespace("INDEX", relay.config.name);
		await namespace.delete(request.key);
	},

	// {class, name | object_id} → the file that holds the object's SQLite.
	async storage_file(relay, request) {
		return { file: await storageFile(relay, request) };
	},

	// {queue: binding or queue name, body, contentType: "text" | "json" | "bytes"}: puts a message
	// into the queue past the Worker. A body of bytes is base64.
	async queue_send(relay, request) {
		const { body, contentType } = queueMessage(request);
		const producer = await producerOf(relay, request.queue);
		await producer.send(body, { contentType, delaySeconds: request.delay_s });
	},

	// {queue, messages: [{body, contentType}]}: the same for several that come as one batch.
	async queue_send_batch(relay, request) {
		const producer = await producerOf(relay, request.queue);
		await producer.sendBatch(request.messages.map(queueMessage));
	},

	// {} → resident bytes of workerd, now and at its peak.
	async memory() {
		const processes = workerdProcesses();
		const sum = (field) => processes.reduce((total, one) => total + (one[field] ?? 0), 0);
		return { rss_bytes: sum("rss_bytes"), rss_peak_bytes: sum("rss_peak_bytes"), processes };
	},

	// {}: ends workerd and this process.
	async stop() {
		return { stopping: true };
	},
};

function identifier(request) {
	return request.object_id === undefined ? { name: request.name } : { id: request.object_id };
}

async function storageFile(relay, request) {
	const id = request.object_id ?? (await objectId(relay, request.class, request.name));
	return path.join(relay.state, "do", `${relay.config.name}-${request.class}`, `${id}.sqlite`);
}

async function objectId(relay, className, name) {
	const binding = relay.config.durable_objects.bindings.find(
		({ class_name }) => class_name === className,
	);
	if (binding === undefined) throw new Error(`no binding for the class ${className} in wrangler.toml`);
	const namespace = await relay.miniflare.getDurableObjectNamespace(binding.name, relay.config.name);
	return namespace.idFromName(name).toString();
}

function bucketOf(relay) {
	return relay.miniflare.getR2Bucket("BUCKET", relay.config.name);
}

function describeObject(object) {
	return {
		key: object.key,
		version: object.version,
		size_bytes: object.size,
		http_metadata: object.httpMetadata,
		metadata: object.customMetadata,
	};
}

function queueMessage({ body, contentType = "json" }) {
	return { body: contentType === "bytes" ? Buffer.from(body, "base64") : body, contentType };
}

function producerOf(relay, name) {
	const binding = producerBinding(relay.config, name);
	return relay.miniflare.getQueueProducer(binding, relay.config.name);
}

function producerBinding(config, name) {
	const producer = config.queues.producers.find(
		({ binding, queue }) => binding === name || queue === name,
	);
	if (producer === undefined) throw new Error(`no producer for the queue ${name} in wrangler.toml`);
	return producer.binding;
}
