import type { AuditApi, TokenApi } from "../domain/admin-token.ts";
import { fromAppRef, fromTime } from "./codec/common.ts";
import { fromTokenRequest, fromTokenSelection, toAuditEntry, toTokenInfo } from "./codec/token.ts";
import { defined, maybe } from "./codec/values.ts";
import type { AuditService, TokenService } from "./gen/tidemark/v1/token_pb.ts";
import type { ServiceHandlers } from "./grpc-service.ts";

/** What carries TokenService out. */
export function tokenHandlers({ tokens }: { readonly tokens: TokenApi }): ServiceHandlers<typeof TokenService> {
  return {
    createToken: async (request, options) => {
      const { token, info } = await tokens.createToken(fromTokenRequest(request), options);
      return { token, info: toTokenInfo(info) };
    },
    async *listTokens({ app, all }, options) {
      const request = defined({ app: maybe(app, fromAppRef), all });
      for await (const page of tokens.listTokens(request, options)) yield { tokens: page.map(toTokenInfo) };
    },
    inspectToken: async ({ token }, options) => ({ info: toTokenInfo(await tokens.inspectToken({ token }, options)) }),
    revokeTokens: async (request, options) => tokens.revokeTokens(fromTokenSelection(request), options),
    rotateTokenKeys: async ({ revokeOld }, options) => tokens.rotateTokenKeys({ revokeOld }, options),
  };
}

/** What carries AuditService out. */
export function auditHandlers({ audit }: { readonly audit: AuditApi }): ServiceHandlers<typeof AuditService> {
  return {
    async *listAudit({ since, app, refusedOnly }, options) {
      const from = maybe(since, (time) => fromTime(time, "since"));
      const request = defined({ since: from, app: maybe(app, fromAppRef), refusedOnly });
      for await (const page of audit.listAudit(request, options)) yield { entries: page.map(toAuditEntry) };
    },
  };
}
