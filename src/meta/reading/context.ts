import type { CallOptions } from "../../domain/admin-call.ts";
import type { RequestContext } from "../../domain/metadata-api.ts";
import { SERVICE_CONTEXT } from "../open-app.ts";

/** Who a change asked for through the API is recorded as: the caller's actor, else the service. */
export function contextOf(options: CallOptions | undefined): RequestContext {
  const actor = options?.actor;
  return actor === undefined ? SERVICE_CONTEXT : { actor, unique: 0, resent: false };
}
