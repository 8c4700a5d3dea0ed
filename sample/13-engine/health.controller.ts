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

  /** Always up: restarting this process would not bring the server of the queue back. */
  @Get('live')
  @HealthCheck()
  live() {
    return this.health.check([]);
  }

  /** 503 while this process should not get requests that add tasks. */
  @Get('ready')
  @HealthCheck()
  ready() {
    return this.health.check([() => this.backgroundTasks()]);
  }

  private async backgroundTasks() {
    const { ok, engine } = await this.runner.health();
    // Its `problem` may name servers and users: log it, but do not publish it.
    const details = { sends: engine?.sends, works: engine?.works };
    const indicator = this.indicators.check('backgroundTasks');
    return ok ? indicator.up(details) : indicator.down(details);
  }
}
