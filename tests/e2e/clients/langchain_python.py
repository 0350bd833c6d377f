"""LangChain's chat models for OpenAI and Ollama, over the socket argv[1], with model argv[2]."""

import sys

import httpx
from langchain_ollama import ChatOllama
from langchain_openai import ChatOpenAI

SOCKET, MODEL = sys.argv[1:3]
QUESTION = "What is the capital of France?"

models = [
    ChatOpenAI(model=MODEL, base_url="http://localhost/v1", api_key="none", temperature=0,
               http_client=httpx.Client(transport=httpx.HTTPTransport(uds=SOCKET))),
    ChatOllama(model=MODEL, base_url="http://localhost", temperature=0,
               sync_client_kwargs={"transport": httpx.HTTPTransport(uds=SOCKET)}),
]
for m in models:
    answer = m.invoke(QUESTION)
    assert "Paris" in answer.content, answer
    assert answer.usage_metadata["output_tokens"] > 0
    assert "".join(part.content for part in m.stream(QUESTION)) == answer.content
print("ok")
