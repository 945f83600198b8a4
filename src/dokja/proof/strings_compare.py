"""Sentences of the pages about several models: a comparison of judged ones, and the published scores."""

from __future__ import annotations

TABLE: dict[str, tuple[str, str]] = {
    # comparison
    "cmp_kicker": ("dokja · comparison", "독자(獨自) · 비교"),
    "cmp_many": ("{n} models", "모델 {n}개"),
    "cmp_lede": (
        "{mode}: on {n} questions {b} gets {share} right, {a} {first}: {change} points {interval}.",
        "{mode}: 문제 {n}개에서 {b} {share}, {a} {first} 정답. 차이 {change}점 {interval}.",
    ),
    "cmp_change": ("{b} − {a}", "{b} − {a}"),
    "cmp_better": ("better", "더 나음"),
    "cmp_worse": ("worse", "더 못함"),
    "cmp_not told apart": ("not told apart", "구별되지 않음"),
    "cmp_notes": ("Not asked alike", "똑같이 묻지 않은 점"),
    "cmp_note_grader_version": (
        "Their answers were graded by different versions of the graders. {details}",
        "채점기의 버전이 서로 다릅니다. {details}",
    ),
    "cmp_note_template_sha256": ("Their chat templates differ. {details}", "대화 형식이 서로 다릅니다. {details}"),
    "cmp_note_sampling": (
        "Their answers were drawn differently. {details}",
        "답을 뽑은 방식이 서로 다릅니다. {details}",
    ),
    "cmp_note_same_weights": ("Two of them have the same weights.", "가중치가 같은 모델이 있습니다."),
    "cmp_note_other_texts": (
        "{details} problems of one id ask different things and were left out.",
        "같은 번호인데 물음이 다른 문제 {details}개를 뺐습니다.",
    ),
    "cmp_note_not_shared": (
        "{details} problems were not answered by all of them and were left out.",
        "모두가 답하지 않은 문제 {details}개를 뺐습니다.",
    ),
    "cmp_bars": ("By family", "유형별"),
    "cmp_bars_lede": (
        "Bars are pass@1 with 95 % intervals. Differences are to {a}, over the same problems; a verdict holds after "
        "Holm's correction for having looked at all rows.",
        "막대는 pass@1과 95 % 구간입니다. 차이는 같은 문제에서 {a}에 대한 것이며, 판정은 모든 줄을 함께 본 것을 "
        "감안해 홀름 방법으로 보정한 결과입니다.",
    ),
    "cmp_all": ("All problems", "모든 문제"),
    "cmp_difference": ("Difference, points", "차이(점)"),
    "cmp_reliability": ("Reliability", "믿을 만한 정도"),
    "cmp_problems": ("{n} problems × {repeats}", "문제 {n}개 × {repeats}회"),
    "cmp_detectable": ("shows {points} points or more", "{points}점부터 드러남"),
    "cmp_truncated": ("{n} cut off", "잘림 {n}"),
    "cmp_unparseable": ("{n} unreadable", "읽을 수 없음 {n}"),
    "cmp_refused": ("{n} refused", "거절 {n}"),
    "cmp_grader_failed": ("{n} grader failed", "채점기 오류 {n}"),
    "cmp_spent": ("Score and what it takes", "점수와 드는 것"),
    "cmp_spent_lede": (
        "Full: thinking. Hollow: at once. The vertical bar is the 95 % interval; the horizontal scale is logarithmic.",
        "채운 점은 생각하고 답하기, 빈 점은 바로 답하기입니다. 세로 막대는 95 % 구간, 가로축은 로그 눈금입니다.",
    ),
    "cmp_parameters": ("Parameters", "매개변수"),
    "cmp_tokens": ("Tokens per answer", "답 하나에 쓴 토큰"),
    "cmp_seconds": ("Seconds, longest sitting", "가장 길게 이어 푼 시간(초)"),
    "cmp_cost": ("Cost, in the currency of the prices", "비용(값을 매긴 통화)"),
    "cmp_table": ("All figures", "모든 수치"),
    "cmp_gained_lost": ("gained / lost", "나아짐 / 나빠짐"),
    "cmp_p": ("p, corrected", "p(보정)"),
    "cmp_method": (
        "Several answers to one problem count as one cluster. Single right-or-wrong answers are tested exactly "
        "(McNemar), repeated ones by Student's t over the problems. A row “shows” a difference that it would have "
        "found four times in five.",
        "한 문제의 여러 답은 한 묶음으로 셉니다. 답이 하나씩이면 맥니마 정확 검정, 여러 번이면 문제 단위 t 검정을 "
        "씁니다. ‘드러남’은 다섯 번에 네 번 찾아낼 만한 차이입니다.",
    ),
    "cmp_footer": (
        "Made by dokja from the records of these models alone. This page loads nothing from anywhere.",
        "dokja가 이 모델들의 기록만으로 만들었습니다. 이 페이지는 바깥에서 아무것도 불러오지 않습니다.",
    ),
    # published scores
    "pub_kicker": ("dokja · published scores", "독자(獨自) · 공개된 점수"),
    "pub_title": ("Published scores", "공개된 점수"),
    "pub_lede": (
        "{n} numbers from public tables, with who measured each. They are their publishers' claims, not measurements "
        "of ours.",
        "공개된 표의 수치 {n}개와 그 측정 주체입니다. 우리가 잰 값이 아니라 공개한 쪽의 주장입니다.",
    ),
    "pub_own": (
        "● is the publisher's own model, measured by itself. ○ was printed by the same publisher, who does not say who "
        "ran it.",
        "●는 공개한 곳이 자기 모델을 직접 잰 값, ○는 같은 곳이 실었지만 누가 쟀는지 밝히지 않은 값입니다.",
    ),
    "pub_claims": ("What was said about them", "점수를 두고 나온 말"),
    "pub_claims_lede": (
        "Claims in the press and in reports, held against the tables. What does not hold is shown as it was said.",
        "기사와 보고서의 주장을 표와 맞추어 보았습니다. 맞지 않는 말도 나온 그대로 보입니다.",
    ),
    "pub_holds": ("holds", "맞음"),
    "pub_contradicted": ("contradicted", "표와 다름"),
    "pub_not published": ("not published", "공개되지 않음"),
    "pub_misattributed": ("somebody else's figure", "다른 곳의 수치"),
    "pub_no source": ("no source", "출처 없음"),
    "pub_table_says": ("{what}: {said} was said, the table has {published}", "{what}: 말은 {said}, 표는 {published}"),
    "pub_same_as": ("{said} is the score on {row}", "{said}는 {row}의 점수"),
    "pub_size": ("Score and size", "점수와 크기"),
    "pub_size_lede": (
        "Models that think. Blue: the publisher's own. Parameters on a logarithmic scale, counted in full; settings "
        "differ between reports.",
        "생각하는 모델들입니다. 파랑은 공개한 곳의 모델, 가로축은 전체 매개변수의 로그 눈금입니다. 보고서마다 평가 "
        "설정이 다릅니다.",
    ),
    "pub_benchmark": ("Benchmark", "벤치마크"),
    "pub_measured_by": ("Measured by", "잰 곳"),
    "pub_figure": ("Figure", "수치"),
    "pub_model": ("Model", "모델"),
    "pub_value": ("Value", "값"),
    "pub_elsewhere": ("Figures that stand in no table", "표 밖의 수치"),
    "pub_odd": (
        "† is no whole number of {n} problems: its vote must have shared ties.",
        "†는 {n}문제의 정수 배가 아닙니다. 동점을 나누어 센 다수결로 보입니다.",
    ),
    "pub_of_ten": ("of 10", "10점 만점"),
    "pub_footer": (
        "Made by dokja from the scores it ships. This page loads nothing from anywhere.",
        "dokja에 담긴 점수로 만들었습니다. 이 페이지는 바깥에서 아무것도 불러오지 않습니다.",
    ),
}
