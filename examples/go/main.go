// Submits a job from Go, and follows it to its end, with `sickbay up` running. docs/clients.md says how to generate its imports.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	jobsv1 "sickbay/jobs/v1"
)

func main() {
	address := os.Getenv("SICKBAY_JOBAPI")
	if address == "" {
		address = "localhost:50051"
	}
	connection, err := grpc.Dial(address, grpc.WithInsecure())
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	jobs := jobsv1.NewJobServiceClient(connection)

	job, err := submit(jobs, "email", map[string]string{"to": "user@example.com"})
	if err != nil {
		log.Fatalf("%s: %s", status.Code(err), status.Convert(err).Message())
	}
	if err := follow(jobs, job.GetJobId()); err != nil {
		log.Fatal(err)
	}
}

// submit sends the payload as JSON text, which is kept byte for byte.
func submit(jobs jobsv1.JobServiceClient, jobType string, payload interface{}) (*jobsv1.Job, error) {
	text, err := json.Marshal(payload)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	reply, err := jobs.SubmitJob(ctx, &jobsv1.SubmitJobRequest{
		JobType:   jobType,
		Content:   &jobsv1.SubmitJobRequest_PayloadJson{PayloadJson: string(text)},
		RequestId: fmt.Sprintf("example-%d", time.Now().UnixNano()), // a repeat with the same key is the same job
	})
	return reply.GetJob(), err
}

// follow prints the job's state, now and after every change, until it has ended.
func follow(jobs jobsv1.JobServiceClient, jobID string) error {
	changes, err := jobs.WatchJob(context.Background(), &jobsv1.WatchJobRequest{JobId: jobID})
	if err != nil {
		return err
	}
	for {
		update, err := changes.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Println(update.GetJob().GetJobId(), update.GetJob().GetState())
	}
}
