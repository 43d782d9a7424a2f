// The least a webhook relay could do, as the floor of every measurement: verify the signature,
// push the body to a hibernatable socket. It stores nothing and queues nothing, so an event that
// finds nobody connected is lost.
//
//   POST /webhook         as Linear sends it
//   POST /webhook-queued  the same through a queue: what the local queue costs by itself
//   GET  /events/stream   WebSocket

import { DurableObject } from "cloudflare:workers";

const encoder = new TextEncoder();
let importedKey;

function signingKey(env) {
	importedKey ??= crypto.subtle.importKey(
		"raw",
		encoder.encode(env.LINEAR_WEBHOOK_SECRET.split(",")[0]),
		{ name: "HMAC", hash: "SHA-256" },
		false,
		["verify"],
	);
	return importedKey;
}

function fromHex(text) {
	if (text === null || !/^[0-9a-f]{64}$/.test(text)) return undefined;
	return Uint8Array.from(text.match(/../g), (pair) => Number.parseInt(pair, 16));
}

async function receiveWebhook(request, env, handOn) {
	const body = await request.arrayBuffer();
	const signature = fromHex(request.headers.get("linear-signature"));
	const isGenuine =
		signature !== undefined &&
		(await crypto.subtle.verify("HMAC", await signingKey(env), signature, body));
	if (!isGenuine) return new Response("wrong signature", { status: 401 });
	return handOn(env, body);
}

function push(env, body) {
	return channel(env).fetch("http://channel/push", { method: "POST", body });
}

async function enqueue(env, body) {
	await env.QUEUE.send(new TextDecoder().decode(body), { contentType: "text" });
	return new Response();
}

function channel(env) {
	return env.CHANNELS.get(env.CHANNELS.idFromName("everyone"));
}

export default {
	fetch(request, env) {
		const { pathname } = new URL(request.url);
		if (pathname === "/webhook") return receiveWebhook(request, env, push);
		if (pathname === "/webhook-queued") return receiveWebhook(request, env, enqueue);
		if (pathname === "/events/stream") return channel(env).fetch(request);
		if (pathname === "/health") return new Response("ok");
		return new Response("not found", { status: 404 });
	},

	async queue(batch, env) {
		const bodies = JSON.stringify(batch.messages.map((message) => message.body));
		await channel(env).fetch("http://channel/push-batch", { method: "POST", body: bodies });
	},
};

export class FloorChannel extends DurableObject {
	async fetch(request) {
		if (request.headers.get("upgrade") === "websocket") return this.connect();
		const text = await request.text();
		const bodies = request.url.endsWith("-batch") ? JSON.parse(text) : [text];
		for (const socket of this.ctx.getWebSockets()) {
			for (const body of bodies) socket.send(body);
		}
		return new Response();
	}

	connect() {
		const { 0: client, 1: server } = new WebSocketPair();
		this.ctx.acceptWebSocket(server);
		return new Response(null, { status: 101, webSocket: client });
	}

	webSocketMessage() {}
	webSocketClose() {}
}
