import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import path from "node:path";
import type { Clock, Timestamp } from "../../base/clock.ts";
import { syncFolder, writeWhole } from "../../base/durable-file.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { alternativeNamesOf, validityOf } from "./certificate.ts";
import { parseCertificates, readText, readTlsFiles, type TlsMaterial } from "./tls-files.ts";
import { type IssuedCertificate, issueCertificate, makeAuthority, signCertificate, type Validity } from "./x509.ts";

const HOUR_SEC = 3600;
const DAY_SEC = 24 * HOUR_SEC;

/** How long certificates hold, in seconds. */
export type Lifetimes = { readonly authoritySec: number; readonly serviceSec: number; readonly nodeSec: number };

const LIFETIMES: Lifetimes = {
  authoritySec: 3653 * DAY_SEC,
  serviceSec: 365 * DAY_SEC,
  nodeSec: 365 * DAY_SEC,
};

/** Certificates hold from so long ago on: another machine's clock may be behind by that. */
const BACKDATED_SEC = HOUR_SEC;

/** A certificate is renewed when less than this part of its time is left. */
const RENEWED_PART = 1 / 3;

/** Whether a certificate that holds so long should be renewed now. */
export function isRenewalDue({ from, until }: Validity, now: Timestamp): boolean {
  return until.sec - now.sec < (until.sec - from.sec) * RENEWED_PART;
}

/**
 * The service's own certificate authority, in the folder `tls` of the data folder (0700, files 0600): `ca.crt` and `ca.key`, made at the first start, and the service's `service.crt` and `service.key`, made anew when they are about
 * to expire or the service has other names. A key is written before its certificate, so that a certificate that is there has its key.
 */
export class CertificateAuthority {
  /** PEM. */
  readonly certificate: string;
  readonly validity: Validity;
  readonly #folder: string;
  readonly #key: string;
  readonly #clock: Clock;
  readonly #lifetimes: Lifetimes;

  private constructor(folder: string, made: IssuedCertificate, { clock, lifetimes = LIFETIMES }: AuthorityOptions) {
    this.#folder = folder;
    this.certificate = made.certificate;
    this.#key = made.key;
    this.#clock = clock;
    this.#lifetimes = lifetimes;
    this.validity = validityOf(parseCertificates(path.join(folder, "ca.crt"), made.certificate)[0]);
  }

  /** Opens the authority in `folder`, or makes it. Throws a TidemarkError that names the file and what is wrong with it. */
  static async open(folder: string, options: AuthorityOptions): Promise<CertificateAuthority> {
    const made = await mkdir(folder, { recursive: true, mode: 0o700 });
    if (made !== undefined) await syncFolder(path.dirname(folder));
    const certFile = path.join(folder, "ca.crt");
    const keyFile = path.join(folder, "ca.key");
    if (!existsSync(certFile)) return new CertificateAuthority(folder, await create(folder, options), options);
    if (!existsSync(keyFile)) {
      const message = `${keyFile} is missing: bring it back, or remove ${folder} to begin with a new authority (every node has to join again then)`;
      throw new TidemarkError("FAILED_PRECONDITION", message);
    }
    const { certificate, key } = await readTlsFiles(
      { certFile, keyFile, caFile: certFile },
      { purpose: "service", now: options.clock.now() },
    );
    return new CertificateAuthority(folder, { certificate, key }, options);
  }

  /** The service's certificate for these names and addresses, and its key: those that are there, or new ones. */
  async service(names: readonly string[]): Promise<TlsMaterial> {
    const files = { certFile: path.join(this.#folder, "service.crt"), keyFile: path.join(this.#folder, "service.key") };
    const kept = await this.#kept(files, names);
    if (kept !== undefined) return { ...kept, authority: this.certificate };
    const made = await issueCertificate(this.#self, {
      name: "tidemark service",
      purpose: "service",
      alternativeNames: names,
      validity: this.#validity(this.#lifetimes.serviceSec),
    });
    await writeWhole(files.keyFile, made.key);
    await writeWhole(files.certFile, made.certificate);
    return { ...made, authority: this.certificate };
  }

  /** A certificate for a node's public key (SubjectPublicKeyInfo, DER). */
  async signNode(name: string, publicKey: Uint8Array<ArrayBuffer>): Promise<string> {
    const validity = this.#validity(this.#lifetimes.nodeSec);
    return signCertificate(this.#self, { name, purpose: "node", alternativeNames: [], validity, publicKey });
  }

  /** A key with a certificate that can be exchanged, until then, for that of the node `name`. */
  async issueInvite(name: string, until: Timestamp): Promise<IssuedCertificate> {
    const validity = { from: this.#backdated(), until };
    return issueCertificate(this.#self, { name, purpose: "node", alternativeNames: [], validity });
  }

  get #self(): IssuedCertificate {
    return { certificate: this.certificate, key: this.#key };
  }

  /** What is there, if it is still good for these names. */
  async #kept(
    { certFile, keyFile }: { readonly certFile: string; readonly keyFile: string },
    names: readonly string[],
  ): Promise<IssuedCertificate | undefined> {
    if (!existsSync(certFile) || !existsSync(keyFile)) return undefined;
    try {
      const certificate = await readFile(certFile, "utf8");
      const key = await readText(keyFile, { secret: true });
      const [leaf] = parseCertificates(certFile, certificate);
      const [authority] = parseCertificates("ca.crt", this.certificate);
      const { publicKey } = authority;
      const fits =
        leaf.checkIssued(authority) && leaf.verify(publicKey) && !isRenewalDue(validityOf(leaf), this.#clock.now());
      if (!fits || !sameNames(alternativeNamesOf(leaf), names)) return undefined;
      await readTlsFiles(
        { certFile, keyFile, caFile: path.join(this.#folder, "ca.crt") },
        { purpose: "service", now: this.#clock.now() },
      );
      return { certificate, key };
    } catch (error) {
      // A damaged or half-written pair is made anew: nobody else has it.
      if (error instanceof TidemarkError && error.code !== "PERMISSION_DENIED") return undefined;
      throw error;
    }
  }

  /** Not longer than the authority's own. */
  #validity(lifetimeSec: number): Validity {
    const { sec } = this.#clock.now();
    return {
      from: this.#backdated(),
      until: { sec: Math.min(sec + lifetimeSec, this.validity.until.sec), nsec: 0 },
    };
  }

  #backdated(): Timestamp {
    return { sec: this.#clock.now().sec - BACKDATED_SEC, nsec: 0 };
  }
}

export type AuthorityOptions = { readonly clock: Clock; readonly lifetimes?: Lifetimes };

async function create(folder: string, { clock, lifetimes = LIFETIMES }: AuthorityOptions): Promise<IssuedCertificate> {
  const { sec } = clock.now();
  // A name of its own, so that certificates of an authority that was thrown away are not taken for this one's.
  const made = await makeAuthority(`Tidemark CA ${randomBytes(4).toString("hex")}`, {
    from: { sec: sec - BACKDATED_SEC, nsec: 0 },
    until: { sec: sec + lifetimes.authoritySec, nsec: 0 },
  });
  await writeWhole(path.join(folder, "ca.key"), made.key);
  await writeWhole(path.join(folder, "ca.crt"), made.certificate);
  return made;
}

/** OpenSSL spells IPv6 addresses its own way. */
function sameNames(certified: readonly string[], wanted: readonly string[]): boolean {
  const normal = (names: readonly string[]): string => [...new Set(names.map(canonical))].sort().join(" ");
  return normal(certified) === normal(wanted);
}

function canonical(name: string): string {
  if (!name.includes(":")) return name.toLowerCase();
  const host = URL.parse(`http://[${name}]`)?.hostname;
  return host ?? name;
}
