import { existsSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import path from "node:path";
import { syncFolder, writeWhole } from "../../base/durable-file.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { parseNetworkAddress } from "./network-address.ts";
import { readText, type TlsFiles } from "./tls-files.ts";

/**
 * What a machine that has joined keeps, in a folder of its own (0700, files 0600): `node.key`, `ca.crt`, `service.json` (where the service is) and, last, `node.crt`: with it the machine has joined. The key stays the same when
 * the certificate is renewed, so that the two always fit.
 */
export class NodeFolder {
  readonly path: string;

  constructor(folder: string) {
    this.path = folder;
  }

  /** As `readTlsFiles` wants them. */
  get files(): TlsFiles {
    return { certFile: this.#file("node.crt"), keyFile: this.#file("node.key"), caFile: this.#file("ca.crt") };
  }

  get hasJoined(): boolean {
    return existsSync(this.#file("node.crt"));
  }

  /** Where the service is that it joined. Throws FAILED_PRECONDITION when it has joined none, INVALID_ARGUMENT when the file is damaged. */
  async address(): Promise<string> {
    this.checkJoined();
    const file = this.#file("service.json");
    const text = await readText(file);
    const address = addressIn(text);
    if (address === undefined)
      throw new TidemarkError("INVALID_ARGUMENT", `${file} is damaged: expected {"address":"HOST:PORT"}`);
    parseNetworkAddress(`the address in ${file}`, address);
    return address;
  }

  /** Throws FAILED_PRECONDITION. */
  checkJoined(): void {
    if (this.hasJoined) return;
    const message = `this machine has joined no service (there is no ${this.#file("node.crt")}): on the service's machine "tidemark node invite NAME" makes a ticket, here "tidemark node join" uses it`;
    throw new TidemarkError("FAILED_PRECONDITION", message);
  }

  /** The key that this machine joins with: the one that is there from a try before, or what `make` makes. */
  async key(make: () => Promise<string>): Promise<string> {
    await this.#make();
    const file = this.#file("node.key");
    if (existsSync(file)) return readText(file, { secret: true });
    const key = await make();
    await writeWhole(file, key);
    return key;
  }

  /** The machine has joined. */
  async joined(with_: {
    readonly authority: string;
    readonly certificate: string;
    readonly address: string;
  }): Promise<void> {
    const { authority, certificate, address } = with_;
    await writeWhole(this.#file("ca.crt"), authority);
    await writeWhole(this.#file("service.json"), `${JSON.stringify({ address })}\n`);
    await this.renewed(certificate);
  }

  /** Its certificate was renewed. */
  async renewed(certificate: string): Promise<void> {
    await writeWhole(this.#file("node.crt"), certificate);
  }

  /** The machine forgets the service: first that it has joined, then the rest. What is not there is no error. */
  async leave(): Promise<void> {
    const { certFile, keyFile, caFile } = this.files;
    for (const file of [certFile, keyFile, caFile, this.#file("service.json")]) {
      await rm(file, { force: true });
      await syncFolder(this.path);
    }
  }

  async #make(): Promise<void> {
    try {
      const made = await mkdir(this.path, { recursive: true, mode: 0o700 });
      for (let at = this.path; made !== undefined; at = path.dirname(at)) {
        await syncFolder(path.dirname(at));
        if (at === made) break;
      }
    } catch (cause) {
      const { code, message } = cause as NodeJS.ErrnoException;
      const denied = code === "EACCES" || code === "EPERM" || code === "EROFS";
      throw new TidemarkError(denied ? "PERMISSION_DENIED" : "INVALID_ARGUMENT", `${this.path}: ${message}`, { cause });
    }
  }

  #file(name: string): string {
    return path.join(this.path, name);
  }
}

function addressIn(text: string): string | undefined {
  try {
    const value: unknown = JSON.parse(text);
    const address = typeof value === "object" && value !== null && "address" in value ? value.address : undefined;
    return typeof address === "string" ? address : undefined;
  } catch {
    return undefined;
  }
}
