-- How did nDCG@10 of the systems develop, run by run?
SELECT
    STRPTIME(runs.run[:15], '%Y%m%dT%H%M%S') AS evaluated_at,
    metrics.system_name,
    ROUND(metrics.measured, 4) AS ndcg_at_10,
    ROUND(metrics.interval_low, 4) AS interval_low,
    ROUND(metrics.interval_high, 4) AS interval_high,
    ROUND(metrics.measured - LAG(metrics.measured) OVER (
        PARTITION BY metrics.system_name, metrics.candidates ORDER BY runs.run), 4) AS since_the_run_before,
    metrics.user_count AS users,
    metrics.candidates,
    runs.ranking,
    runs.captioner
FROM evaluation.metrics AS metrics
INNER JOIN evaluation.runs AS runs ON runs.run = metrics.run
WHERE metrics.metric = 'nDCG@10' AND metrics.subset = '' AND NOT COALESCE(metrics.is_bound, FALSE)
ORDER BY runs.run, metrics.candidates, metrics.measured DESC
