import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from "node:http";
import { silentLog } from "../../base/log.ts";
import { SystemTimers } from "../../base/timers.ts";
import { S3Blobs } from "../s3-blobs.ts";
import { S3_MULTIPART_FROM_BYTES, S3_PART_BYTES, S3_TIMEOUTS, type S3Deps, type S3Settings } from "../s3-options.ts";

/** A request as the server saw it. */
export type S3Request = {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
};

/** What the server does: an answer, or something with the response that is none. */
export type S3Answer =
  | {
      readonly status: number;
      readonly headers?: Readonly<Record<string, string>>;
      readonly body?: string | Buffer;
    }
  | ((response: ServerResponse) => void);

/** Says nothing, and keeps the connection. */
export const silence: S3Answer = () => {};

/** Breaks the connection off. */
export const hangUp: S3Answer = (response) => response.destroy();

/** An error in S3's words. */
export function s3Fault(status: number, code: string, message = "because", extra = ""): S3Answer {
  const body = `<?xml version="1.0"?><Error><Code>${code}</Code><Message>${message}</Message>${extra}</Error>`;
  return { status, headers: { "content-type": "application/xml" }, body };
}

/** An answer with an XML body. */
export function s3Xml(body: string): S3Answer {
  return { status: 200, headers: { "content-type": "application/xml" }, body: `<?xml version="1.0"?>${body}` };
}

/** A server that answers as a test says: what real ones do rarely. */
export class ScriptedS3 implements AsyncDisposable {
  readonly requests: S3Request[] = [];
  /** Answers each request; a test sets it. */
  answer: (request: S3Request, index: number) => S3Answer = () => s3Fault(500, "InternalError");
  readonly #server: Server;
  #port = 0;

  private constructor() {
    this.#server = createServer((incoming, response) => {
      const parts: Buffer[] = [];
      incoming.on("data", (part: Buffer) => parts.push(part));
      incoming.on("end", () => {
        const url = new URL(incoming.url ?? "/", "http://x");
        const { method = "", headers } = incoming;
        const request = { method, path: url.pathname, query: url.searchParams, headers, body: Buffer.concat(parts) };
        this.requests.push(request);
        const answer = this.answer(request, this.requests.length - 1);
        if (typeof answer === "function") return answer(response);
        response.writeHead(answer.status, { "x-amz-request-id": "1", ...answer.headers });
        response.end(request.method === "HEAD" ? undefined : answer.body);
      });
    });
  }

  static async start(): Promise<ScriptedS3> {
    const scripted = new ScriptedS3();
    await new Promise<void>((resolve) => scripted.#server.listen(0, "127.0.0.1", resolve));
    const address = scripted.#server.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    scripted.#port = address.port;
    return scripted;
  }

  get host(): string {
    return `127.0.0.1:${this.#port}`;
  }

  /** A store whose bucket is at this server. */
  open(settings: Partial<S3Settings> = {}, deps: Partial<S3Deps> = {}): S3Blobs {
    return new S3Blobs(
      { ...testSettings(`http://${this.host}`), ...settings },
      { timers: new SystemTimers(), random: () => 0, log: silentLog, ...deps },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** Settings with keys that must never be seen in a message. */
export function testSettings(endpoint: string): S3Settings {
  return {
    bucket: "the-bucket",
    prefix: "pre",
    region: "us-east-1",
    endpoint,
    pathStyle: true,
    credentials: { accessKeyId: "key-id", secretAccessKey: "the-secret-key", sessionToken: "the-token" },
    certificateAuthorities: undefined,
    timeouts: S3_TIMEOUTS,
    conditionalPuts: "yes",
    checksums: true,
    lockMode: "compliance",
    multipartFromBytes: S3_MULTIPART_FROM_BYTES,
    partBytes: S3_PART_BYTES,
  };
}
