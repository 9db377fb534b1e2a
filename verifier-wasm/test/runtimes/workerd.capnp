using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [(name = "receiver", worker = .receiver)],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "receiver")],
);

const receiver :Workerd.Worker = (
  compatibilityDate = "2026-01-01",
  modules = [
    (name = "worker.js", esModule = embed "worker.js"),
    (name = "verifier.wasm", wasm = embed "verifier.wasm"),
  ],
);
