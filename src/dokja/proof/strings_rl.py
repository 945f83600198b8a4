"""The sentences about what came after SFT: the table by stage, preference, reinforcement learning."""

from __future__ import annotations

TABLE: dict[str, tuple[str, str]] = {
    # by stage
    "stages": ("Stage by stage", "단계별 결과"),
    "stages_lede": (
        "The model after each stage, on the same held-out problems. Dots with 95 % intervals; the change to {first} is "
        "paired by problem.",
        "각 단계를 마친 모델에게 같은 문제를 풀게 했습니다. 점과 막대는 95 % 구간이고, {first} 대비 변화는 "
        "문제끼리 짝지어 셌습니다.",
    ),
    "short_sft": ("SFT", "SFT"),
    "short_preference": ("Preference", "선호"),
    "short_rl": ("RL", "RL"),
    "stages_pass1": ("{mode}, pass@1", "{mode}, pass@1"),
    "both_languages": ("Both", "전체"),
    "thought_length": ("Thought, tokens", "생각(토큰)"),
    "change_points": ("Change, points", "변화(점)"),
    "change_thought": ("Change, tokens", "변화(토큰)"),
    "gained_lost": ("{gained} gained, {lost} lost", "새로 맞힘 {gained}, 놓침 {lost}"),
    "objective": ("Loss", "손실"),
    # preference
    "pairs_accuracy": ("Pairs in the right order", "바르게 줄 세운 쌍"),
    "pairs_margin": ("Margin, nats per token", "차이(토큰당 nat)"),
    "pairs_logp": ("Log-probability per token", "토큰당 로그 확률"),
    "chosen": ("better answer", "나은 답"),
    "rejected": ("worse answer", "못한 답"),
    # reinforcement learning
    "rl": ("Reinforcement learning", "강화 학습"),
    "rl_how": (
        "{algorithm}: {prompts} problems a step, {group} answers to each.",
        "{algorithm}: 스텝마다 문제 {prompts}개, 문제마다 답 {group}개.",
    ),
    "rl_lede": (
        "{how}Faint: every step. Firm: moving average. Dots: held-out problems, answered greedily.",
        "{how}옅은 선은 매 스텝, 짙은 선은 이동 평균, 점은 따로 둔 문제에 그리디로 답한 것입니다.",
    ),
    "rl_reward": ("Reward", "보상"),
    "rl_accuracy": ("Accuracy in training", "학습 중 정확도"),
    "rl_languages": ("Accuracy by language", "언어별 정확도"),
    "rl_eval": ("Held-out accuracy", "따로 둔 문제의 정확도"),
    "rl_length": ("Length, tokens", "길이(토큰)"),
    "rl_thought": ("thought", "생각"),
    "rl_thought_eval": ("thought, held out", "생각, 따로 둔 문제"),
    "rl_answer": ("answer at once", "바로 한 답"),
    "rl_entropy": ("Entropy, nats per token", "엔트로피(토큰당 nat)"),
    "rl_mismatch": ("KL, trainer to engine", "KL, 학습기와 엔진"),
    "rl_mismatch_note": ("largest {n}", "최댓값 {n}"),
    "rl_reference": ("KL, trainer to reference", "KL, 학습기와 기준 모델"),
    "rl_kept": ("Groups that train", "학습에 쓴 묶음"),
    "rl_clipped": ("Clipped tokens", "비율이 잘린 토큰"),
    "rl_seconds": ("Seconds per step", "스텝당 초"),
    "rl_seconds_all": ("all", "전체"),
    "rl_seconds_rollouts": ("writing answers", "답 쓰기"),
    "rl_faults": ("Shortcuts and faults", "꼼수와 결함"),
    "rl_faults_none": ("never seen: {names}", "한 번도 없음: {names}"),
    "fault_forced": ("thought closed by force", "강제로 끝낸 생각"),
    "fault_wrong_mode": ("wrong mode", "방식 어김"),
    "fault_wrong_language": ("wrong language", "다른 언어"),
    "fault_empty_thought": ("empty thought", "빈 생각"),
    "fault_repetition": ("repetition", "되풀이"),
    "rl_optimiser": ("Loss, learning rate, gradient, speed", "손실, 학습률, 기울기, 속도"),
    "curriculum": ("Curriculum", "교육 과정"),
    "curriculum_lede": (
        "Share of right answers by family and level (rows) from step {first} to step {last} (left to right). Problems "
        "near one half teach most and are drawn most.",
        "유형과 난이도(가로줄)별로 맞힌 비율을 {first}스텝에서 {last}스텝까지(왼쪽에서 오른쪽) 보입니다. "
        "절반쯤 맞히는 문제가 가장 많이 가르치므로 가장 자주 뽑습니다.",
    ),
    "curriculum_scale": ("right", "맞음"),
    "curriculum_tile": ("level {level}, step {step}: {share}", "난이도 {level}, {step}스텝: {share}"),
    "rollouts": ("Answers of the last step", "마지막 스텝의 답"),
    "rollouts_lede": (
        "Step {step}, answers stored: {n}. Chosen by hash, one for each mode, language and verdict.",
        "{step}스텝에서 저장한 답 {n}개 가운데 방식·언어·맞고 틀림마다 하나씩 해시 순서로 뽑았습니다.",
    ),
    "graded": ("Graded", "채점"),
    "reward": ("Reward", "보상"),
    "part_correct": ("right", "맞음"),
    "part_concise": ("brief", "간결"),
    "part_language": ("language", "언어"),
    "part_format": ("form", "형식"),
    "part_overlong": ("too long", "너무 김"),
    "part_judge": ("judge model", "평가 모델"),
    # model card
    "card_stages": ("By stage of training", "학습 단계별 결과"),
    "card_stages_lede": (
        "The same held-out problems after each stage, pass@1 with 95 % intervals; changes are paired by problem.",
        "같은 문제를 단계마다 풀게 한 pass@1과 95 % 구간입니다. 변화는 문제끼리 짝지어 셌습니다.",
    ),
    "card_stage": ("Stage", "단계"),
    "card_stage_row": ("{stage}, {mode}", "{stage}, {mode}"),
    "card_training": ("Training after pre-training", "사전 학습 다음의 학습"),
    "card_sft": ("SFT: conversations in both modes.", "SFT: 두 방식의 대화."),
    "card_preference": (
        "Preference ({objective}): its own answers compared, right and shorter ones preferred.",
        "선호 학습({objective}): 스스로 쓴 답을 견주어 맞고 짧은 쪽을 택하게 했습니다.",
    ),
    "card_rl": (
        "Reinforcement learning ({algorithm}): {steps} steps, graded by the exact graders of its tasks.",
        "강화 학습({algorithm}): {steps}스텝, 보상은 과제의 정확한 채점기가 매겼습니다.",
    ),
}
