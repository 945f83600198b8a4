"""What `dokja plan` says, in Korean and English: the label of every row and its formula."""

from dokja.cli.strings import Language

TITLES: dict[str, dict[Language, str]] = {
    "shape": {"en": "{name} on {mesh}: {devices} × {device}", "ko": "{name}, {mesh}: {devices} × {device}"},
    "memory": {"en": "Memory of a device of the fullest stage", "ko": "가장 꽉 찬 단계의 장치 하나에 드는 메모리"},
    "step": {"en": "One training step", "ko": "학습 한 걸음"},
    "traffic": {"en": "Bytes that a device sends in a step", "ko": "한 걸음에 장치 하나가 보내는 바이트"},
    "serve": {"en": "Keys and values, weights", "ko": "키와 값, 가중치"},
    "served": {
        "en": "What reading memory allows, for one copy of the model on {copy} devices",
        "ko": "메모리 읽기가 허락하는 속도, 장치 {copy}개에 놓인 모델 한 벌",
    },
}

ROWS: dict[str, dict[Language, tuple[str, str]]] = {
    "params": {"en": ("parameters", "all of them: {vision}{mtp}the rest is text"),
               "ko": ("매개변수", "모두: {vision}{mtp}나머지는 글")},
    "active": {"en": ("active", "what a token multiplies with: one vocabulary matrix, chosen and shared experts"),
               "ko": ("활성", "토큰 하나가 곱하는 것: 어휘 행렬 하나, 고른 전문가와 공유 전문가")},
    "job": {"en": ("batch", "{rows} rows of {seq:,}; {per_rank} a rank in {micro} micro batches of {micro_rows}"),
            "ko": ("배치", "{seq:,}토큰 {rows}줄, 순위마다 {per_rank}줄을 {micro_rows}줄씩 {micro}번")},
    "weights": {"en": ("weights", "4 bytes (fp32 masters), shared by dp, tp, pp and, of experts, ep"),
                "ko": ("가중치", "4바이트(fp32 원본), dp·tp·pp로, 전문가는 ep로도 나눔")},
    "gradients": {"en": ("gradients", "4 bytes, shared alike"), "ko": ("기울기", "4바이트, 같은 방식으로 나눔")},
    "optimizer": {"en": ("optimiser", "4 bytes for a number of a matrix (Muon), 8 for any other (AdamW)"),
                  "ko": ("최적화기", "행렬의 수는 4바이트(Muon), 나머지는 8바이트(AdamW)")},
    "gathered.one": {"en": ("working copy", "the largest layer in the dtype of the products"),
                     "ko": ("작업 사본", "가장 큰 층을 곱셈 자료형으로")},
    "gathered.fsdp": {"en": ("gathered by FSDP", "bf16 of the two largest layers, fp32 gradients of one"),
                      "ko": ("FSDP가 모은 것", "가장 큰 두 층의 bf16과 한 층의 fp32 기울기")},
    "gathered.pp": {"en": ("gathered by FSDP", "bf16 weights and fp32 gradients of the stage, for all micro batches"),
                    "ko": ("FSDP가 모은 것", "단계 전체의 bf16 가중치와 fp32 기울기, 모든 작은 배치 동안")},
    "activations": {
        "en": ("activations, all kept", "{flying} micro batches × {tokens:,} tokens × Σ layers (4 D + 3 (A + K) + 3 F; "
               "experts: chosen × (2 D + 3 F)) × {bytes} bytes / tp{chosen}"),
        "ko": ("활성값, 모두 간직", "작은 배치 {flying} × {tokens:,}토큰 × Σ 층 (4 D + 3 (A + K) + 3 F; "
               "전문가: 고른 수 × (2 D + 3 F)) × {bytes}바이트 / tp{chosen}")},
    "recomputed": {
        "en": ("activations, recomputed", "{flying} micro batches × {tokens:,} tokens × D × layers × {bytes} bytes "
               "/ tp, and one layer as above{chosen}"),
        "ko": ("활성값, 다시 계산", "작은 배치 {flying} × {tokens:,}토큰 × D × 층 수 × {bytes}바이트 / tp, "
               "그리고 위와 같은 층 하나{chosen}")},
    "logits": {"en": ("logits", "3 × 4 bytes × {rows:,} rows at a time × vocabulary / tp, and the head's gradient"),
               "ko": ("로짓", "3 × 4바이트 × 한 번에 {rows:,}줄 × 어휘 / tp, 그리고 출력 행렬의 기울기")},
    "total": {"en": ("together", "may fill {usable} ({share:.0%} of {memory})"),
              "ko": ("합계", "채울 수 있는 크기 {usable} ({memory}의 {share:.0%})")},
    "flops_token": {"en": ("FLOPs per token", "6 × {n:,} active{mtp} + 12 × heads × head_dim × pairs ({share:.1%})"),
                    "ko": ("토큰당 FLOPs", "6 × 활성 {n:,}{mtp} + 12 × 헤드 × 헤드 너비 × 보는 쌍 ({share:.1%})")},
    "flops_step": {"en": ("FLOPs per step", "per token × {tokens:,} tokens"),
                   "ko": ("걸음당 FLOPs", "토큰당 × {tokens:,}토큰")},
    "recompute_flops": {"en": ("recomputation", "every layer's forward again: a third of its FLOPs; not in MFU"),
                        "ko": ("다시 계산", "층마다 앞으로 한 번 더: FLOPs의 3분의 1, MFU에는 넣지 않음")},
    "muon_flops": {"en": ("Muon", "5 × (4 r² c + 2 r³) for every matrix r × c, shared by all devices; not in MFU"),
                   "ko": ("Muon", "행렬 r × c마다 5 × (4 r² c + 2 r³), 모든 장치가 나눔, MFU에는 넣지 않음")},
    "compute": {"en": ("products", "the fullest stage's FLOPs / ({peak} × {mfu:.0%})"),
                "ko": ("곱셈", "가장 바쁜 단계의 FLOPs / ({peak} × {mfu:.0%})")},
    "bubble": {"en": ("pipeline bubble", "(p − 1) / (m + p − 1) = {p1} / ({m} + {p1})"),
               "ko": ("파이프라인 빈틈", "(p − 1) / (m + p − 1) = {p1} / ({m} + {p1})")},
    "expected": {"en": ("step, expected", "max((products + tp + ep) / (1 − bubble), dp + muon, pp)"),
                 "ko": ("걸음 시간, 예상", "max((곱셈 + tp + ep) / (1 − 빈틈), dp + muon, pp)")},
    "worst": {"en": ("step, nothing hidden", "the same, added up"), "ko": ("걸음 시간, 겹치지 않으면", "모두 더함")},
    "speed": {"en": ("tokens per second", "batch / expected step, all devices; MFU {mfu:.1%}"),
              "ko": ("초당 토큰", "배치 / 예상 걸음 시간, 모든 장치, MFU {mfu:.1%}")},
    "days": {"en": ("days", "{tokens:,} tokens ({origin})"), "ko": ("일수", "{tokens:,}토큰 ({origin})")},
    "dp": {"en": ("dp: FSDP", "(n − 1) / n × a device's share: {gathers} × 2 bytes gathered, {scatters} × 4 scattered"),
           "ko": ("dp: FSDP", "(n − 1) / n × 장치의 몫: {gathers} × 2바이트 모음, {scatters} × 4바이트 나눔")},
    "muon": {"en": ("dp: Muon", "shards to the device that orthogonalises them and back, 2 × 2 bytes"),
             "ko": ("dp: Muon", "조각을 직교화할 장치로 보내고 받음, 2 × 2바이트")},
    "tp": {"en": ("tp: all-reduce", "2 (n − 1) / n × tokens × D × 2 bytes, {passes} times a layer"),
           "ko": ("tp: all-reduce", "2 (n − 1) / n × 토큰 × D × 2바이트, 층마다 {passes}번")},
    "ep": {"en": ("ep: all-to-all", "(n − 1) / n × tokens × active × D × 2 bytes, {passes} times a layer with experts"),
           "ko": ("ep: all-to-all", "(n − 1) / n × 토큰 × 고른 수 × D × 2바이트, 전문가 층마다 {passes}번")},
    "pp": {"en": ("pp: sends", "tokens × D × 2 bytes / tp, there and back"),
           "ko": ("pp: 전달", "토큰 × D × 2바이트 / tp, 가고 오고")},
    "kv_token": {"en": ("one more token", "2 × kv_heads × head_dim × 2 bytes × {globals_} global layers"),
                 "ko": ("토큰 하나 더", "2 × kv 헤드 × 헤드 너비 × 2바이트 × 전역 층 {globals_}개")},
    "kv": {"en": ("sequence of {length:,}", "local layers keep their window; a device holds {device}"),
           "ko": ("{length:,}토큰 문맥", "지역 층은 창만 간직, 장치 하나에 {device}")},
    "held": {"en": ("{kind} weights", "of a device; {free} left for keys and values"),
             "ko": ("{kind} 가중치", "장치 하나에, 키와 값에 {free} 남음")},
    "held.over": {"en": ("{kind} weights", "of a device; {free} more than may be filled"),
                  "ko": ("{kind} 가중치", "장치 하나에, 채울 수 있는 크기보다 {free} 많음")},
}  # fmt: skip

COLUMNS: dict[Language, tuple[str, ...]] = {
    "en": ("weights", "length", "sequences that fit", "tokens/s, one", "tokens/s, all"),
    "ko": ("가중치", "길이", "들어가는 문맥 수", "토큰/초, 하나", "토큰/초, 모두"),
}

WORDS: dict[str, dict[Language, str]] = {
    "chosen": {"en": "  ← taken", "ko": "  ← 고름"},
    "mtp": {"en": " with the multi-token head and a second output matrix", "ko": "(다중 토큰 머리, 출력 행렬 두 번)"},
    "vision_params": {"en": "{n:,} see, ", "ko": "보는 데 {n:,}, "},
    "mtp_params": {"en": "{n:,} predict two ahead, ", "ko": "두 토큰 앞을 내다보는 데 {n:,}, "},
    "origin.recipe": {"en": "the recipe's stages", "ko": "레시피의 단계들"},
    "origin.given": {"en": "as asked", "ko": "지정한 값"},
    "origin.assumed": {"en": "the recipe names no stage: assumed", "ko": "레시피에 단계가 없어 가정한 값"},
    "legend": {
        "en": "D width, A all query heads, K all key heads, F feed-forward; GB are 10⁹ bytes. Estimates: "
              "bench/plan_check.py measures how good.",
        "ko": "D 너비, A 질의 헤드 전체, K 키 헤드 전체, F 피드포워드, GB는 10⁹바이트. 어림값: "
              "bench/plan_check.py가 실제와 견줍니다.",
    },
    "served": {
        "en": "tokens/s = sequences / (bytes that a step must read / {bandwidth}): an upper limit.",
        "ko": "토큰/초 = 문맥 수 / (한 걸음에 읽어야 하는 바이트 / {bandwidth}): 위쪽 한계.",
    },
}  # fmt: skip
