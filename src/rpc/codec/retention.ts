import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Timestamp } from "../../base/clock.ts";
import type { RetentionForecast, RetentionStatus } from "../../domain/admin-retention.ts";
import type { Lsn } from "../../domain/ids.ts";
import type { RetentionPolicy } from "../../domain/retention.ts";
import type * as pb from "../gen/tidemark/v1/retention_pb.ts";
import { fromAppName, fromLsn, fromTime, toTime } from "./common.ts";
import { defined, maybe, need, safeNumber, wide } from "./values.ts";

/** What retention.proto has, both ways. */

export function fromPolicy(message: pb.RetentionPolicy | undefined): RetentionPolicy {
  const { continuousMs, hourly, daily, weekly, monthly, yearly } = need(message, "policy");
  const span = maybe(continuousMs, (ms) => safeNumber(ms, "continuous_ms"));
  return { continuousMs: span, hourly, daily, weekly, monthly, yearly };
}

export function toPolicy(policy: RetentionPolicy): MessageInitShape<typeof pb.RetentionPolicySchema> {
  const { continuousMs, hourly, daily, weekly, monthly, yearly } = policy;
  return { ...defined({ continuousMs: maybe(continuousMs, wide) }), hourly, daily, weekly, monthly, yearly };
}

type Floor = { readonly floor: Lsn; readonly floorTime?: Timestamp };

function fromFloor(message: pb.HistoryFloor | undefined, field: string): Floor {
  const { floor, floorTime } = need(message, field);
  const time = floorTime === undefined ? undefined : fromTime(floorTime, "floor_time");
  return { floor: fromLsn(floor, "floor"), ...(time === undefined ? {} : { floorTime: time }) };
}

function toFloor({ floor, floorTime }: Floor): MessageInitShape<typeof pb.HistoryFloorSchema> {
  return defined({ floor: wide(floor), floorTime: maybe(floorTime, toTime) });
}

export function fromRetention(message: pb.AppRetention | undefined): RetentionStatus {
  const { app, policy, floor, momentCount } = need(message, "retention");
  const rest = policy === undefined ? {} : { policy: fromPolicy(policy) };
  return { app: fromAppName(app), ...rest, ...fromFloor(floor, "floor"), momentCount };
}

export function toRetention(status: RetentionStatus): MessageInitShape<typeof pb.AppRetentionSchema> {
  const { app, policy, momentCount } = status;
  return { app, ...(policy === undefined ? {} : { policy: toPolicy(policy) }), floor: toFloor(status), momentCount };
}

export function fromForecast(message: pb.PlanRetentionResponse): RetentionForecast {
  const { app, policy, before, after, removedCount, momentCount, moments } = message;
  return {
    app: fromAppName(app),
    policy: fromPolicy(policy),
    before: fromFloor(before, "before"),
    after: fromFloor(after, "after"),
    removedCount,
    momentCount,
    moments: moments.map(({ turn, lsn }) => ({ turn: fromTime(turn, "turn"), lsn: fromLsn(lsn, "lsn") })),
  };
}

export function toForecast(forecast: RetentionForecast): MessageInitShape<typeof pb.PlanRetentionResponseSchema> {
  const { app, policy, before, after, removedCount, momentCount, moments } = forecast;
  return {
    app,
    policy: toPolicy(policy),
    before: toFloor(before),
    after: toFloor(after),
    removedCount,
    momentCount,
    moments: moments.map(({ turn, lsn }) => ({ turn: toTime(turn), lsn: wide(lsn) })),
  };
}
