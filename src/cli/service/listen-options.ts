import type { TlsFiles } from "../../rpc/tls/tls-files.ts";

/** How `tidemark serve` was told to listen for other nodes. Plain values: they travel to the service process as JSON. */
export type ListenOptions = {
  /** "HOST:PORT", with TLS. */
  readonly addresses: readonly string[];
  /** "HOST:PORT", without; loopback only. */
  readonly plaintext: readonly string[];
  /** Names and addresses under which nodes reach the service, beside those it listens on. */
  readonly names: readonly string[];
  /** Certificates of somebody else's authority; absent: the service's own. */
  readonly tls?: TlsFiles;
};
