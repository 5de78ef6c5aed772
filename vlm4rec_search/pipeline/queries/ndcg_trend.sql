-- How did nDCG@10 of the systems develop, run by run?
SELECT
    metrics.system_name,
    metrics.candidates,
    STRPTIME(runs.run[:15], '%Y%m%dT%H%M%S') AS evaluated_at,
    ROUND(metrics.measured, 4) AS ndcg_at_10,
    ROUND(metrics.interval_low, 4) AS interval_low,
    ROUND(metrics.interval_high, 4) AS interval_high,
    ROUND(metrics.measured - LAG(metrics.measured) OVER runs_before, 4) AS change,
    metrics.user_count AS users,
    CONCAT_WS(', ',
        CASE WHEN runs.captioner <> LAG(runs.captioner) OVER runs_before THEN 'captioner' END,
        CASE WHEN runs.encoder <> LAG(runs.encoder) OVER runs_before THEN 'encoder' END,
        CASE WHEN runs.text_recipe <> LAG(runs.text_recipe) OVER runs_before THEN 'text_recipe' END,
        CASE WHEN runs.ranking <> LAG(runs.ranking) OVER runs_before THEN 'ranking' END) AS differs_in
FROM evaluation.metrics AS metrics
INNER JOIN evaluation.runs AS runs ON runs.run = metrics.run
WHERE metrics.metric = 'nDCG@10' AND metrics.subset = '' AND NOT COALESCE(metrics.is_bound, FALSE)
WINDOW runs_before AS (PARTITION BY metrics.system_name, metrics.candidates ORDER BY runs.run)
ORDER BY ARG_MAX(metrics.measured, runs.run) OVER (PARTITION BY metrics.system_name) DESC,
    metrics.system_name, metrics.candidates, runs.run
