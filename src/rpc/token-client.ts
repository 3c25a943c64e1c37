import type { AuditApi, TokenApi } from "../domain/admin-token.ts";
import { toTime } from "./codec/common.ts";
import { fromAuditEntry, fromTokenInfo, toTokenRequest, toTokenSelection } from "./codec/token.ts";
import { maybe } from "./codec/values.ts";
import { AuditService, TokenService } from "./gen/tidemark/v1/token_pb.ts";
import type { GrpcCaller } from "./grpc-caller.ts";

/** TokenApi of a service, over gRPC. */
export function tokenClient(caller: GrpcCaller): TokenApi {
  const { method } = TokenService;
  return {
    createToken: async (request, options) => {
      const { token, info } = await caller.unary(method.createToken, toTokenRequest(request), options);
      return { token, info: fromTokenInfo(info) };
    },
    async *listTokens(request, options) {
      for await (const page of caller.stream(method.listTokens, request, options)) yield page.tokens.map(fromTokenInfo);
    },
    inspectToken: async (request, options) =>
      fromTokenInfo((await caller.unary(method.inspectToken, request, options)).info),
    revokeTokens: async (request, options) => {
      const { revoked, ended } = await caller.unary(method.revokeTokens, toTokenSelection(request), options);
      return { revoked, ended };
    },
    rotateTokenKeys: async (request, options) => {
      const { keyId, revoked, ended } = await caller.unary(method.rotateTokenKeys, request, options);
      return { keyId, revoked, ended };
    },
  };
}

/** AuditApi of a service, over gRPC. */
export function auditClient(caller: GrpcCaller): AuditApi {
  const { method } = AuditService;
  return {
    async *listAudit({ since, ...request }, options) {
      const message = { ...request, since: maybe(since, toTime) };
      for await (const page of caller.stream(method.listAudit, message, options))
        yield page.entries.map(fromAuditEntry);
    },
  };
}
