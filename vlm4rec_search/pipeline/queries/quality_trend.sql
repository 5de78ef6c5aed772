-- How did the checks end, run by run?
SELECT
    results.checked_at,
    results.environment,
    results.origin,
    COUNT(*) AS rules,
    COUNT(*) FILTER (results.status = 'failed') AS failed,
    COUNT(*) FILTER (results.status = 'warning') AS warnings,
    LIST(DISTINCT results.suite ORDER BY results.suite) FILTER (results.status <> 'passed') AS suites_with_findings
FROM quality.results AS results
GROUP BY results.run, results.checked_at, results.environment, results.origin
ORDER BY results.checked_at
