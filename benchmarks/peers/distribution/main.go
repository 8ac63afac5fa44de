// Calls the Redis blob descriptor cache of CNCF Distribution, as its registry does.
//
// Usage: distribution host:port folder ping|no-ping. The folder holds blobs.tsv and draws.txt; jobs
// come on standard input and their measurements go to standard output, a JSON document a line each.
// The same protocol, and the same work, as benchmarks/client.py.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/docker/distribution"
	"github.com/docker/distribution/registry/storage/cache"
	rediscache "github.com/docker/distribution/registry/storage/cache/redis"
	"github.com/garyburd/redigo/redis"
	"github.com/opencontainers/go-digest"
)

// A connection for each caller: of 8, 16, 32, 64, 128 and 512 the most gave the best latency by far, and the rate of the others.
const mostConnections = 512

const writeEvery = 20 // of the mixed workload's operations, one is a write

type blob struct {
	service    distribution.BlobDescriptorService
	descriptor distribution.Descriptor
	absent     digest.Digest
}

type job struct {
	Workload string  `json:"workload"`
	Callers  int     `json:"callers"`
	Seconds  float64 `json:"seconds"`
}

type measurement struct {
	Operations int     `json:"operations"`
	Seconds    float64 `json:"seconds"`
	P50        float64 `json:"p50_us"`
	P99        float64 `json:"p99_us"`
	P999       float64 `json:"p999_us"`
	CPU        float64 `json:"cpu_seconds"`
	Memory     int     `json:"memory_bytes"`
}

func main() {
	address, folder, test := os.Args[1], os.Args[2], os.Args[3]
	pool := &redis.Pool{
		Dial:      func() (redis.Conn, error) { return redis.Dial("tcp", address) },
		MaxIdle:   mostConnections,
		MaxActive: mostConnections,
		Wait:      true,
	}
	if test == "ping" { // as configureRedis does in registry/handlers/app.go
		pool.TestOnBorrow = func(connection redis.Conn, _ time.Time) error {
			_, err := connection.Do("PING")
			return err
		}
	}
	blobs := readBlobs(filepath.Join(folder, "blobs.tsv"), rediscache.NewRedisBlobDescriptorCacheProvider(pool))
	draws := readDraws(filepath.Join(folder, "draws.txt"))

	jobs := bufio.NewScanner(os.Stdin)
	for jobs.Scan() {
		var todo job
		must(json.Unmarshal(jobs.Bytes(), &todo))
		line, err := json.Marshal(work(blobs, draws, todo))
		must(err)
		fmt.Println(string(line))
	}
	must(jobs.Err())
}

func work(blobs []blob, draws []int, todo job) measurement {
	must(os.WriteFile("/proc/self/clear_refs", []byte("5"), 0))
	began, cpu := time.Now(), cpuSeconds()
	deadline := began.Add(time.Duration(todo.Seconds * float64(time.Second)))
	latencies := make([][]float64, todo.Callers)
	var callers sync.WaitGroup
	for number := 0; number < todo.Callers; number++ {
		callers.Add(1)
		go func(number int) {
			defer callers.Done()
			latencies[number] = call(blobs, draws, todo.Workload, number*(len(draws)/todo.Callers), deadline)
		}(number)
	}
	callers.Wait()
	result := measurement{Seconds: time.Since(began).Seconds(), CPU: cpuSeconds() - cpu, Memory: peakMemory()}
	var all []float64
	for _, own := range latencies {
		all = append(all, own...)
	}
	sort.Float64s(all)
	result.Operations = len(all)
	quantile := func(share float64) float64 { return all[int(share*float64(len(all)-1))] }
	result.P50, result.P99, result.P999 = quantile(0.5), quantile(0.99), quantile(0.999)
	return result
}

func call(blobs []blob, draws []int, workload string, position int, deadline time.Time) []float64 {
	var latencies []float64
	ctx := context.Background()
	for {
		wanted := &blobs[draws[position%len(draws)]]
		began := time.Now()
		switch {
		case workload == "miss":
			_, err := wanted.service.Stat(ctx, wanted.absent)
			if err != distribution.ErrBlobUnknown {
				panic(fmt.Sprintf("%s: %v where it is unknown", wanted.absent, err))
			}
		case workload == "mixed" && position%writeEvery == 0:
			must(wanted.service.SetDescriptor(ctx, wanted.descriptor.Digest, wanted.descriptor))
		default:
			found, err := wanted.service.Stat(ctx, wanted.descriptor.Digest)
			must(err)
			if found.Digest != wanted.descriptor.Digest || found.Size != wanted.descriptor.Size ||
				found.MediaType != wanted.descriptor.MediaType {
				panic(fmt.Sprintf("%v where %v is kept", found, wanted.descriptor))
			}
		}
		ended := time.Now()
		latencies = append(latencies, float64(ended.Sub(began).Nanoseconds())/1000)
		if !ended.Before(deadline) {
			return latencies
		}
		position++
	}
}

func readBlobs(path string, provider cache.BlobDescriptorCacheProvider) []blob {
	services := make(map[string]distribution.BlobDescriptorService)
	var blobs []blob
	for _, line := range readLines(path) {
		fields := strings.Split(line, "\t")
		service, known := services[fields[0]]
		if !known {
			var err error
			service, err = provider.RepositoryScoped(fields[0])
			must(err)
			services[fields[0]] = service
		}
		size, err := strconv.ParseInt(fields[2], 10, 64)
		must(err)
		blobs = append(blobs, blob{
			service:    service,
			descriptor: distribution.Descriptor{Digest: digest.Digest(fields[1]), Size: size, MediaType: fields[3]},
			absent:     digest.Digest(fields[4]),
		})
	}
	return blobs
}

func readDraws(path string) []int {
	var draws []int
	for _, line := range readLines(path) {
		draw, err := strconv.Atoi(line)
		must(err)
		draws = append(draws, draw)
	}
	return draws
}

func readLines(path string) []string {
	content, err := os.ReadFile(path)
	must(err)
	return strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

func peakMemory() int {
	for _, line := range readLines("/proc/self/status") {
		if strings.HasPrefix(line, "VmHWM:") {
			kilobytes, err := strconv.Atoi(strings.Fields(line)[1])
			must(err)
			return 1024 * kilobytes
		}
	}
	panic("no VmHWM in /proc/self/status")
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
