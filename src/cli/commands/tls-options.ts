import { TidemarkError } from "../../domain/errors.ts";
import type { TlsFiles } from "../../rpc/tls/tls-files.ts";

/** Options that name certificates of another authority than the service's own. */
export type TlsOptions = { readonly tlsCert?: string; readonly tlsKey?: string; readonly tlsCa?: string };

/** The files, all three or none; `absolute` makes paths whole. Throws INVALID_ARGUMENT when one is missing. */
export function tlsFiles(options: TlsOptions, absolute: (file: string) => string): TlsFiles | undefined {
  const { tlsCert, tlsKey, tlsCa } = options;
  if (tlsCert === undefined && tlsKey === undefined && tlsCa === undefined) return undefined;
  if (tlsCert === undefined || tlsKey === undefined || tlsCa === undefined) {
    const message =
      "certificates of another authority take all three: --tls-cert FILE, --tls-key FILE and --tls-ca FILE";
    throw new TidemarkError("INVALID_ARGUMENT", message);
  }
  return { certFile: absolute(tlsCert), keyFile: absolute(tlsKey), caFile: absolute(tlsCa) };
}
