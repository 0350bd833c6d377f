// The openai and ollama packages of Node, unmodified, over the socket argv[2], with model argv[3].
import assert from "node:assert/strict";
import { createRequire } from "node:module";

// Packages come from NODE_PATH, which only require looks at.
const require = createRequire(import.meta.url);
const { Agent, fetch } = require("undici");
const OpenAI = require("openai");
const { Ollama } = require("ollama");

const [socketPath, model] = process.argv.slice(2);
const dispatcher = new Agent({ connect: { socketPath } });
const overSocket = (url, options = {}) => fetch(url, { ...options, dispatcher });
const messages = [{ role: "user", content: "What is the capital of France?" }];

const openai = new OpenAI({ baseURL: "http://localhost/v1", apiKey: "none", fetch: overSocket });
const whole = await openai.chat.completions.create({ model, messages });
const answer = whole.choices[0].message.content;
assert.match(answer, /Paris/);
let text = "";
for await (const chunk of await openai.chat.completions.create({ model, messages, stream: true }))
  text += chunk.choices[0].delta.content ?? "";
assert.equal(text, answer);
await assert.rejects(openai.chat.completions.create({ model: "no-such-model", messages }),
                     OpenAI.NotFoundError);
const listed = [];
for await (const m of openai.models.list()) listed.push(m.id);
assert.ok(listed.includes(model));

const ollama = new Ollama({ host: "http://localhost", fetch: overSocket });
const chat = await ollama.chat({ model, messages });
assert.equal(chat.message.content, answer);
text = "";
for await (const part of await ollama.chat({ model, messages, stream: true }))
  text += part.message.content;
assert.equal(text, answer);
await assert.rejects(ollama.chat({ model: "no-such-model", messages }), /model/);
assert.ok((await ollama.list()).models.some((m) => m.model === model));
await dispatcher.close();
console.log("ok");
