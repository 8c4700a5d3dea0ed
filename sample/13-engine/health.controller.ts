import { Controller, Get } from '@nestjs/common';
import { HealthCheck, HealthCheckService, HealthIndicatorService } from '@nestjs/terminus';
import { BackgroundTasksRunner } from 'nestjs-background-tasks';

@Controller('health')
export class HealthController {
  constructor(
    private readonly health: HealthCheckService,
    private readonly indicators: HealthIndicatorService,
    private readonly runner: BackgroundTasksRunner,
  ) {}

  /** Answers as long as the process can. A restart would not bring the server of the queue back. */
  @Get('live')
  @HealthCheck()
  live() {
    return this.health.check([]);
  }

  /** 503 while this process should get no requests that add tasks. */
  @Get('ready')
  @HealthCheck()
  ready() {
    return this.health.check([() => this.backgroundTasks()]);
  }

  private async backgroundTasks() {
    const { ok, engine } = await this.runner.health();
    // Its `problem` may name servers and users: it is for a log.
    const details = { sends: engine?.sends, works: engine?.works };
    const indicator = this.indicators.check('backgroundTasks');
    return ok ? indicator.up(details) : indicator.down(details);
  }
}
