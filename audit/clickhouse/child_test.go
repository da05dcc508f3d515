package clickhouse

func runChild([]string) {}
