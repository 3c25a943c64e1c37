import { freePort, ToolProcess } from "./test-tool.ts";

/** A fault of a connection, by the names and attributes of Toxiproxy's README ("Toxics"). Times are milliseconds. */
export type Toxic =
  | { readonly type: "latency"; readonly attributes: { readonly latency: number; readonly jitter?: number } }
  | { readonly type: "reset_peer"; readonly attributes: { readonly timeout: number } }
  | { readonly type: "limit_data"; readonly attributes: { readonly bytes: number } }
  /** 0: data stop, and the connection stays open. */
  | { readonly type: "timeout"; readonly attributes: { readonly timeout: number } }
  | { readonly type: "bandwidth"; readonly attributes: { readonly rate: number } };

export type ToxicOptions = {
  /** Towards the client (the default) or the server. */
  readonly stream?: "downstream" | "upstream";
  /** Which part of the connections, 0 to 1. */
  readonly toxicity?: number;
};

/** A real proxy (Toxiproxy) between a client and a server on the loopback address, which breaks connections as it is told. */
export class ToxicProxy {
  /** Where clients connect to: `http://127.0.0.1:port`. */
  readonly endpoint: string;
  readonly #api: string;
  readonly #process: ToolProcess;

  private constructor(process: ToolProcess, ports: { api: number; proxy: number }) {
    this.#process = process;
    this.#api = `http://127.0.0.1:${ports.api}`;
    this.endpoint = `http://127.0.0.1:${ports.proxy}`;
  }

  /** Starts a proxy to a port of the loopback address. */
  static async start(upstreamPort: number): Promise<ToxicProxy> {
    const ports = { api: await freePort(), proxy: await freePort() };
    const process = await ToolProcess.start(
      "toxiproxy",
      ["-host", "127.0.0.1", "-port", String(ports.api)],
      async () => (await fetch(`http://127.0.0.1:${ports.api}/version`)).ok,
    );
    const proxy = new ToxicProxy(process, ports);
    const [listen, upstream] = [`127.0.0.1:${ports.proxy}`, `127.0.0.1:${upstreamPort}`];
    await proxy.#request("POST", "/proxies", { name: "s3", listen, upstream, enabled: true });
    return proxy;
  }

  /** Adds a fault to the connections there are and those to come. */
  async add(toxic: Toxic, options: ToxicOptions = {}): Promise<void> {
    const { stream = "downstream", toxicity = 1 } = options;
    await this.#request("POST", "/proxies/s3/toxics", { ...toxic, stream, toxicity });
  }

  /** The server is away: connections are broken and refused. */
  async cut(): Promise<void> {
    await this.#request("POST", "/proxies/s3", { enabled: false });
  }

  /** Everything works again, and no fault is left. */
  async heal(): Promise<void> {
    await this.#request("POST", "/reset", {});
  }

  async stop(): Promise<void> {
    await this.#process.stop("SIGKILL");
  }

  async #request(method: string, path: string, body: unknown): Promise<void> {
    const headers = { "content-type": "application/json" };
    const response = await fetch(this.#api + path, { method, headers, body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`Toxiproxy refused ${path}: ${response.status} ${await response.text()}`);
    await response.arrayBuffer();
  }
}
