import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  CreateBucketCommand,
  PutBucketVersioningCommand,
  PutObjectLockConfigurationCommand,
  S3Client,
} from "@aws-sdk/client-s3";
import { freePort, ToolProcess } from "./test-tool.ts";

/** A real S3 server (versitygw) on the loopback address, with its objects as files of a folder. Use `lacksTools("versitygw")` to skip where it isn't there. */
export class S3Server {
  readonly endpoint: string;
  readonly region = "us-east-1";
  readonly credentials = { accessKeyId: "test-access-key", secretAccessKey: "test-secret-key-value" };
  /** Objects are files below `folder/BUCKET/KEY`. */
  readonly folder: string;
  readonly port: number;
  /** PEM of who signed its certificate; undefined without TLS. */
  readonly certificateAuthority: string | undefined;
  /** A client of the tests, for what the store under test doesn't do. */
  readonly client: S3Client;
  readonly #base: string;
  #process: ToolProcess | undefined;

  private constructor(base: string, port: number, certificateAuthority: string | undefined) {
    this.#base = base;
    this.port = port;
    this.certificateAuthority = certificateAuthority;
    this.folder = join(base, "objects");
    this.endpoint = `${certificateAuthority === undefined ? "http" : "https"}://127.0.0.1:${port}`;
    const { endpoint, region, credentials } = this;
    const tls = certificateAuthority === undefined ? {} : { httpsAgent: { ca: certificateAuthority } };
    this.client = new S3Client({
      endpoint,
      region,
      credentials,
      forcePathStyle: true,
      maxAttempts: 1,
      requestHandler: tls,
    });
  }

  /** Starts a server with no buckets. With `tls`, its certificate is of an authority of its own, `certificateAuthority`. */
  static async start(options: { readonly tls?: boolean } = {}): Promise<S3Server> {
    const base = await mkdtemp(join(tmpdir(), "tidemark-s3-"));
    await mkdir(join(base, "objects"));
    await mkdir(join(base, "versions"));
    const authority = options.tls === true ? makeCertificate(base) : undefined;
    const server = new S3Server(base, await freePort(), authority);
    await server.restart();
    return server;
  }

  /** Makes a bucket; `versioned` keeps what is deleted, `locks` is a versioned bucket with Object Lock. */
  async createBucket(name: string, kind: "plain" | "versioned" | "locks" = "plain"): Promise<string> {
    await this.client.send(
      new CreateBucketCommand({ Bucket: name, ...(kind === "locks" ? { ObjectLockEnabledForBucket: true } : {}) }),
    );
    if (kind === "versioned")
      await this.client.send(
        new PutBucketVersioningCommand({ Bucket: name, VersioningConfiguration: { Status: "Enabled" } }),
      );
    if (kind === "locks")
      await this.client.send(
        new PutObjectLockConfigurationCommand({
          Bucket: name,
          ObjectLockConfiguration: { ObjectLockEnabled: "Enabled" },
        }),
      );
    return name;
  }

  /** The server's process, to freeze it. */
  get process(): ToolProcess {
    if (this.#process === undefined) throw new Error("the server is stopped");
    return this.#process;
  }

  /** Ends it at once, as a crash does; the objects stay. */
  async kill(): Promise<void> {
    await this.#process?.stop("SIGKILL");
    this.#process = undefined;
  }

  /** Starts it again on the same port. */
  async restart(): Promise<void> {
    await this.kill();
    const { accessKeyId, secretAccessKey } = this.credentials;
    const options = [
      "--access",
      accessKeyId,
      "--secret",
      secretAccessKey,
      "--port",
      `127.0.0.1:${this.port}`,
      "--keep-alive",
    ];
    const tls = ["--cert", join(this.#base, "tls.crt"), "--key", join(this.#base, "tls.key")];
    if (this.certificateAuthority !== undefined) options.push(...tls);
    const args = [...options, "posix", "--versioning-dir", join(this.#base, "versions"), this.folder];
    this.#process = await ToolProcess.start("versitygw", args, () => accepts(this.port));
  }

  /** Ends it and removes everything. */
  async stop(): Promise<void> {
    this.client.destroy();
    await this.kill();
    await rm(this.#base, { recursive: true, force: true });
  }
}

/** Makes `tls.key` and `tls.crt` for 127.0.0.1; answers the certificate, which is its own authority. */
function makeCertificate(folder: string): string {
  const [key, certificate] = [join(folder, "tls.key"), join(folder, "tls.crt")];
  const kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
  const subject = ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"];
  execFileSync("openssl", ["req", ...kind, ...subject, "-keyout", key, "-out", certificate], { stdio: "pipe" });
  return readFileSync(certificate, "utf8");
}

/** Whether somebody listens on a port of the loopback address. */
function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => resolve(true));
    socket.once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}
