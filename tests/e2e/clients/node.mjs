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

const response = await openai.responses.create({ model, input: messages[0].content });
assert.equal(response.output_text, answer);
assert.equal(response.status, "completed");
text = "";
let last = null;
for await (const event of await openai.responses.create({ model, input: messages, stream: true })) {
  if (event.type === "response.output_text.delta") text += event.delta;
  last = event;
}
assert.equal(text, answer);
assert.equal(last.type, "response.completed");
const final = await openai.responses.stream({ model, input: messages }).finalResponse();
assert.equal(final.output[0].content[0].text, answer);
const schema = { type: "object", properties: { capital: { type: "string" } },
                 required: ["capital"], additionalProperties: false };
const parsed = await openai.responses.parse({
  model, input: messages, text: { format: { type: "json_schema", name: "answer", schema } } });
assert.deepEqual(Object.keys(JSON.parse(parsed.output_text)), ["capital"]);
await assert.rejects(openai.responses.create({ model, input: messages, background: true }),
                     (e) => e instanceof OpenAI.BadRequestError && e.param === "background");

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
